"""Whole models; WHAT is the model's name, its folder, and a safetensors file of inputs and of the output expected.

A model whose output differs from it by more than `TOLERANCE` of the largest value is another function and is refused.
"""

TOLERANCE = 1e-3
# Weights that the source of a model's file left out, for they serve training only.
UNREAD = {"embeddings.mask_token"}
# What a transformers model is called with and what is compared, by the model's name.
CLASSES = {"minilm": "AutoModel", "dinov2_s14": "AutoModel", "smollm2": "AutoModelForCausalLM"}


def disagreement(output, expected):
    """The largest difference as a share of the largest value."""
    if output.shape != expected.shape:
        raise Refused(f"its output is {list(output.shape)}, ours {list(expected.shape)}")
    error = float((output - expected).abs().max() / expected.abs().max())
    if not error <= TOLERANCE:
        raise Refused(f"its output differs from ours by {error:.1e} of the largest value")
    return error


def module(given):
    """A torch module with the one output that is compared."""
    import torch

    name, folder = given["model"], given["folder"]
    if name == "terrain":
        return guided_unet(folder).eval()
    import transformers

    transformers.utils.logging.disable_progress_bar()
    load = getattr(transformers, CLASSES[name]).from_pretrained
    model, loading = load(
        folder, dtype=torch.float32, attn_implementation="sdpa", output_loading_info=True
    )
    loading["missing_keys"] -= UNREAD
    problems = {what: sorted(map(str, names)) for what, names in loading.items() if names}
    if problems:
        raise Refused(f"it does not read all weights: {problems}")
    model.eval()

    class OneOutput(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, given):
            if name == "dinov2_s14":
                return self.model(pixel_values=given).last_hidden_state
            if name == "minilm":
                return self.model(input_ids=given).last_hidden_state
            # Of a prefill, the next token is wanted, and the keys and values for those after it.
            return self.model(input_ids=given, use_cache=self.caches, logits_to_keep=1).logits[:, 0]

    one = OneOutput()
    one.caches = True
    return one


def tensors(given):
    """Inputs in the order of the module's arguments, and the output that ours gave."""
    import safetensors.torch

    named = safetensors.torch.load_file(given["tensors"])
    expected = named.pop("expected")
    return [named[name] for name in given["inputs"]], expected


class TorchModel:
    """transformers' model with sdpa, or the UNet above."""

    def __init__(self, threads):
        import torch

        torch.set_num_threads(threads)
        self.torch, self.version, self.run = torch, torch.__version__, None

    def prepare(self, given):
        torch, model = self.torch, module(given)
        inputs, expected = tensors(given)
        if given["new_tokens"]:
            return self.decode(model.model, inputs[0], given, expected)

        def run():
            with torch.inference_mode():
                return model(*inputs)

        self.run = run
        return {"how": type(model).__name__, "error": disagreement(run(), expected)}

    def decode(self, model, prompt, given, expected):
        """Greedy tokens after a prompt: with its prefill, or of a prompt that is in the cache."""
        torch, new, prefilled = self.torch, given["new_tokens"], given["prefilled"]
        step = lambda tokens, cache: model(
            input_ids=tokens, cache=cache, use_cache=True, logits_to_keep=1
        )
        start = None
        if prefilled:
            with torch.inference_mode():
                start = step(prompt[:, :-1], None).cache

        def run():
            cache, tokens, generated = start, prompt[:, -1:] if prefilled else prompt, []
            with torch.inference_mode():
                for _ in range(new):
                    out = step(tokens, cache)
                    cache, tokens = out.cache, out.logits[:, -1:].argmax(-1)
                    generated.append(tokens)
            if prefilled:
                cache.crop(-new)
            return torch.cat(generated, 1)

        self.run = run
        if not torch.equal(run(), expected):
            raise Refused("it generates other tokens")
        return {"how": "generation with its cache", "error": 0.0}


class OnnxModel:
    """The torch module as torch exports it."""

    def __init__(self, threads):
        import onnxruntime

        self.runtime, self.version = onnxruntime, onnxruntime.__version__
        self.threads, self.run = threads, None

    def prepare(self, given):
        import tempfile

        import torch

        if given["new_tokens"]:
            raise Refused("generation is measured without it: an export has no loop and no cache")
        model = module(given)
        # What an export cannot have for an output.
        model.caches = False
        inputs, expected = tensors(given)
        options = self.runtime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
            file = f"{folder}/model.onnx"
            torch.onnx.export(model, tuple(inputs), file, dynamo=True, verbose=False)
            session = self.runtime.InferenceSession(
                file, options, providers=["CPUExecutionProvider"]
            )
        names = [node.name for node in session.get_inputs()]
        named = {name: tensor.numpy() for name, tensor in zip(names, inputs)}
        self.run = lambda: session.run(None, named)
        output = torch.from_numpy(self.run()[0])
        return {"how": "torch's export", "error": disagreement(output, expected)}


PEERS = {"torch": TorchModel, "onnxruntime": OnnxModel}
main()
