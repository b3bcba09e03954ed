//! The handwritten backward: one fused backward pass serves the gradients of both outputs.

use std::sync::{Arc, Mutex, PoisonError};

use attention_kernels::{block_map::BlockShape, modification::Modification, softmax::Wanted};
use burn::backend::{
    Autodiff, Backend, TensorMetadata,
    autodiff::{
        checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
        grads::Gradients,
        ops::{Backward, NodeGuard, Ops, OpsKind},
    },
    tensor::FloatTensor,
};

use super::AttentionOps;
use super::values::{
    BackwardInputs, BlockLists, Call, InputGradients, Inputs, MaskTensors, MaybeFloat, Output,
};
use crate::ops::modification::captured_gradient;

/// The gradient of the log-sum-exp on its way to the backward pass of the output, whose node is
/// the only one that leads to the inputs.
type LseGradient<B> = Arc<Mutex<Option<FloatTensor<B>>>>;

/// What the backward pass needs of the forward pass: no score matrix among it.
#[derive(Debug, Clone)]
struct Saved<B: Backend> {
    inputs: Inputs<B>,
    output: Output<B>,
    call: Call,
    grad_lse: LseGradient<B>,
}

#[derive(Debug)]
struct AttentionBackward;

#[derive(Debug)]
struct LseBackward;

/// The operation of a tensor that receives no gradient, only asked whether it expects one.
#[derive(Debug)]
struct Constant;

impl<B: Backend> Backward<B, 1> for Constant {
    type State = ();

    fn backward(self, _: Ops<(), 1>, _: &mut Gradients, _: &mut Checkpointer) {}
}

impl<B: AttentionOps, const N: usize> Backward<B, N> for AttentionBackward {
    type State = Saved<B>;

    fn backward(self, ops: Ops<Saved<B>, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad_out = grads.consume::<B>(&ops.node);
        let saved = ops.state;
        let grad_lse = saved
            .grad_lse
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let tracked = |index: usize| ops.parents.get(index).is_some_and(Option::is_some);
        let with_bias = matches!(saved.inputs.bias, MaybeFloat::Given(_));
        let wanted = Wanted {
            bias: with_bias && tracked(3),
            tables: tracked(3 + usize::from(with_bias)),
        };
        let inputs = BackwardInputs {
            forward: saved.inputs,
            output: saved.output,
            grad_out,
            grad_lse: MaybeFloat::from(grad_lse),
        };
        let gradients = B::attention_backward(inputs, saved.call, wanted);
        let mut computed = vec![
            Some(gradients.query),
            Some(gradients.key),
            Some(gradients.value),
        ];
        if with_bias {
            computed.push(gradients.bias.into_option());
        }
        computed.push(gradients.tables.into_option());
        for (parent, gradient) in ops.parents.into_iter().zip(computed) {
            if let (Some(node), Some(gradient)) = (parent, gradient) {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

impl<B: Backend> Backward<B, 1> for LseBackward {
    type State = (LseGradient<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let (grad_lse, out) = ops.state;
        *grad_lse.lock().unwrap_or_else(PoisonError::into_inner) = Some(grad);
        if let [Some(node)] = ops.parents {
            // The output's backward pass runs once it has a gradient, be it 0.
            let zeros = B::float_zeros(out.shape(), &out.device(), out.dtype().into());
            grads.register::<B>(node.id, zeros);
        }
    }
}

impl<B: AttentionOps, C: CheckpointStrategy> AttentionOps for Autodiff<B, C> {
    fn attention_forward(inputs: Inputs<Self>, call: Call) -> Output<Self> {
        let (query, query_node) = inputs.query.into_parts();
        let (key, key_node) = inputs.key.into_parts();
        let (value, value_node) = inputs.value.into_parts();
        let (bias, bias_node) = inputs
            .bias
            .into_option()
            .map(|bias| bias.into_parts())
            .unzip();
        let (tables, tables_node) = inputs
            .tables
            .into_option()
            .map(|tables| tables.into_parts())
            .unzip();
        let floats = inputs.floats.into_option().map(constant::<B, C>);
        let inputs = Inputs {
            query,
            key,
            value,
            mask: inputs.mask.into_option().into(),
            bias: MaybeFloat::from(bias),
            floats: MaybeFloat::from(floats),
            integers: inputs.integers.into_option().into(),
            tables: MaybeFloat::from(tables),
            block_rows: inputs.block_rows.into_option().into(),
            block_columns: inputs.block_columns.into_option().into(),
        };
        let [query, key, value] = [query_node, key_node, value_node];
        match (bias_node, tables_node) {
            (None, None) => record::<B, C, 3>([query, key, value], inputs, call),
            (Some(other), None) | (None, Some(other)) => {
                record::<B, C, 4>([query, key, value, other], inputs, call)
            }
            (Some(bias), Some(tables)) => {
                record::<B, C, 5>([query, key, value, bias, tables], inputs, call)
            }
        }
    }

    fn attention_backward(_: BackwardInputs<Self>, _: Call, _: Wanted) -> InputGradients<Self> {
        panic!("second-order gradients of attention are not supported")
    }

    fn attention_block_map(
        tensors: MaskTensors<Self>,
        modification: Modification,
        shape: BlockShape,
    ) -> BlockLists<Self> {
        let floats = tensors.floats.into_option();
        let tensors = MaskTensors::<B> {
            anchor: tensors.anchor,
            floats: MaybeFloat::from(floats.map(|floats| floats.into_parts().0)),
            integers: tensors.integers.into_option().into(),
        };
        let lists = B::attention_block_map(tensors, modification, shape);
        BlockLists {
            rows: lists.rows,
            columns: lists.columns,
        }
    }
}

/// What code captured takes part without a gradient. One that expects a gradient cannot be told from
/// one that does not before it gets here.
fn constant<B: Backend, C: CheckpointStrategy>(
    floats: FloatTensor<Autodiff<B, C>>,
) -> FloatTensor<B> {
    let (floats, node) = floats.into_parts();
    let prepared = Backward::<B, 1>::prepare::<C>(Constant, [node]).compute_bound();
    if matches!(prepared.stateful(), OpsKind::Tracked(_)) {
        panic!("{}", captured_gradient());
    }
    floats
}

/// Runs the forward pass and, if a gradient is wanted, registers the backward pass.
fn record<B: AttentionOps, C: CheckpointStrategy, const N: usize>(
    nodes: [NodeGuard; N],
    inputs: Inputs<B>,
    call: Call,
) -> Output<Autodiff<B, C>> {
    let prepared = Backward::<B, N>::prepare::<C>(AttentionBackward, nodes).compute_bound();
    let grad_lse = LseGradient::<B>::default();
    let (out, lse) = match prepared.stateful() {
        OpsKind::UnTracked(prepared) => {
            let Output { out, lse } = B::attention_forward(inputs, call);
            (prepared.finish(out), lse)
        }
        OpsKind::Tracked(prepared) => {
            let call = Call {
                recorded: true,
                ..call
            };
            let output = B::attention_forward(inputs.clone(), call.clone());
            let (out, lse) = (output.out.clone(), output.lse.clone());
            let saved = Saved {
                inputs,
                output,
                call,
                grad_lse: grad_lse.clone(),
            };
            (prepared.finish(saved, out), lse)
        }
    };
    let prepared = Backward::<B, 1>::prepare::<C>(LseBackward, [out.node()]).compute_bound();
    let lse = match prepared.stateful() {
        OpsKind::UnTracked(prepared) => prepared.finish(lse),
        OpsKind::Tracked(prepared) => prepared.finish((grad_lse, out.primitive().clone()), lse),
    };
    Output { out, lse }
}
