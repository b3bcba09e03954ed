"""Attention; WHAT is the device, a shape (batch, heads, kv_heads, queries, seq, head_dim, dtype, causal, backward), and
the `runs` of it for each wait, which are timed as one."""


def dims(shape):
    """`[batch, heads, seq, head_dim]` of the query, the key and the value."""
    queries, tokens = (
        [shape[name] for name in ("batch", heads, length, "head_dim")]
        for heads, length in (("heads", "queries"), ("kv_heads", "seq"))
    )
    return queries, tokens, tokens


def grouped(shape):
    return shape["heads"] != shape["kv_heads"]


class Torch:
    """torch.nn.functional.scaled_dot_product_attention; backward by autograd."""

    def __init__(self, threads):
        import torch

        torch.set_num_threads(threads)
        torch.manual_seed(0)
        self.torch, self.version, self.run = torch, torch.__version__, None

    def dtype(self, name):
        torch = self.torch
        return {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}[name]

    def prepare(self, shape):
        torch, device = self.torch, shape["device"]
        if device == "cuda" and not torch.cuda.is_available():
            raise Refused("this torch has no GPU")
        dtype, backward, runs = self.dtype(shape["dtype"]), shape["backward"], shape["runs"]
        inputs = [
            torch.randn(size, device=device).to(dtype).requires_grad_(backward)
            for size in dims(shape)
        ]
        attend = torch.nn.functional.scaled_dot_product_attention

        def run():
            for _ in range(runs):
                for tensor in inputs:
                    tensor.grad = None
                out = attend(*inputs, is_causal=shape["causal"], enable_gqa=grouped(shape))
                if backward:
                    out.sum().backward()
            if device == "cuda":
                torch.cuda.synchronize()

        self.run = run
        return {"how": f"scaled_dot_product_attention on {device}"}

    def product(self, dtype, side):
        left, right = (self.torch.randn(side, side).to(self.dtype(dtype)) for _ in range(2))
        product = lambda: left @ right
        product()
        return timed(product, 0.3)


class OnnxRuntime:
    """The fastest of three graphs: its fused operation, ONNX's own, and one of matrix products and a softmax."""

    def __init__(self, threads):
        import numpy
        import onnx
        import onnxruntime

        self.numpy, self.onnx, self.runtime = numpy, onnx, onnxruntime
        self.version, self.threads, self.run = onnxruntime.__version__, threads, None

    def prepare(self, shape):
        if shape["backward"]:
            raise Refused("onnxruntime has no backward pass")
        if shape["dtype"] == "bf16":
            raise Refused("onnxruntime has no bf16 kernels for the CPU")
        if shape["device"] != "cpu":
            raise Refused("onnxruntime is measured on the CPU only")
        graphs = {
            "MultiHeadAttention": self.fused,
            "Attention": self.standard,
            "MatMul, Softmax, MatMul": self.composed,
        }
        if grouped(shape):
            graphs = {"Attention": self.standard}
        best = None
        for name, graph in graphs.items():
            session, inputs = graph(shape)
            run = lambda session=session, inputs=inputs: session.run(None, inputs)
            run()
            fastest = min(timed(run, 0.1))
            if best is None or fastest < best[0]:
                best = (fastest, name, run)
        _, name, self.run = best
        return {"how": name}

    def element(self, shape):
        return {"f32": self.numpy.float32, "f16": self.numpy.float16}[shape["dtype"]]

    def inputs(self, shape, sizes):
        random = self.numpy.random.default_rng(0)
        return {
            name: random.standard_normal(size, dtype=self.numpy.float32).astype(self.element(shape))
            for name, size in zip(("query", "key", "value"), sizes)
        }

    def fused(self, shape):
        """`[batch, seq, heads * head_dim]`, which is the layout that it has no copies for."""
        width = shape["heads"] * shape["head_dim"]
        node = self.onnx.helper.make_node(
            "MultiHeadAttention",
            ["query", "key", "value"],
            ["out"],
            domain="com.microsoft",
            num_heads=shape["heads"],
            unidirectional=int(shape["causal"]),
        )
        sizes = [[shape["batch"], shape[seq], width] for seq in ("queries", "seq", "seq")]
        return self.session(shape, [node], sizes)

    def standard(self, shape):
        node = self.onnx.helper.make_node(
            "Attention", ["query", "key", "value"], ["out"], is_causal=int(shape["causal"])
        )
        return self.session(shape, [node], dims(shape))

    def composed(self, shape):
        make, number = self.onnx.helper.make_node, self.onnx.numpy_helper.from_array
        numpy, seq, element = self.numpy, shape["seq"], self.element(shape)
        scale = numpy.array(shape["head_dim"] ** -0.5, element)
        constants = [number(scale, "scale")]
        nodes = [
            make("Transpose", ["key"], ["turned"], perm=[0, 1, 3, 2]),
            make("MatMul", ["query", "turned"], ["products"]),
            make("Mul", ["products", "scale"], ["scores"]),
        ]
        if shape["causal"]:
            hidden = numpy.triu(numpy.full((seq, seq), -numpy.inf, element), 1)
            constants.append(number(hidden, "hidden"))
            nodes.append(make("Add", ["scores", "hidden"], ["masked"]))
        nodes += [
            make("Softmax", [nodes[-1].output[0]], ["weights"], axis=-1),
            make("MatMul", ["weights", "value"], ["out"]),
        ]
        return self.session(shape, nodes, dims(shape), constants)

    def session(self, shape, nodes, sizes, constants=()):
        helper, opset = self.onnx.helper, self.onnx.helper.make_opsetid
        element = helper.np_dtype_to_tensor_dtype(self.numpy.dtype(self.element(shape)))
        tensor = lambda name, size: helper.make_tensor_value_info(name, element, size)
        inputs = [tensor(name, size) for name, size in zip(("query", "key", "value"), sizes)]
        graph = helper.make_graph(nodes, "attention", inputs, [tensor("out", sizes[0])], constants)
        model = helper.make_model(graph, opset_imports=[opset("", 23), opset("com.microsoft", 1)])
        model.ir_version = 11
        options = self.runtime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = self.runtime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return session, self.inputs(shape, sizes)


PEERS = {"torch": Torch, "onnxruntime": OnnxRuntime}
main()
