//! Memory grows with the sequence, not with its square.

use attention_core::{AttentionSpec, DType};
use attention_kernels::{
    TensorRef,
    device::elem_type,
    softmax::{self, BackwardInputs, Inputs, Wanted},
};
use attention_models::device::DeviceKind;
use cubecl::MemoryScope;

#[test]
fn forward_and_backward_of_8192_tokens_take_little_more_than_their_inputs_and_outputs() {
    const SHAPE: [usize; 4] = [1, 8, 8192, 64];
    const TENSOR: u64 = 8 * 8192 * 64 * 4;
    // q, k, v, o, do, dq, dk, dv and lse.
    const NEEDED: u64 = 8 * TENSOR + 8 * 8192 * 4;

    let client = DeviceKind::Cpu
        .client()
        .expect("the processor is always there");
    let reserved = || {
        client
            .memory_report(MemoryScope::CurrentStream)
            .usage()
            .bytes_reserved
    };
    let before = reserved();
    let zeros = vec![0u8; TENSOR as usize];
    let tensor = || {
        let handle = client.create_from_slice(&zeros);
        TensorRef::contiguous(handle, SHAPE, elem_type(DType::F32))
    };
    let inputs = Inputs::new(tensor(), tensor(), tensor());
    let spec = AttentionSpec::default();
    let output = softmax::forward(&client, &inputs, &spec).expect("the shapes fit");
    let like_output = |handle| TensorRef::contiguous(handle, SHAPE, elem_type(DType::F32));
    let lse = TensorRef::contiguous(output.lse, [1, 8, 8192, 1], elem_type(DType::F32));
    let backward = BackwardInputs {
        forward: inputs,
        out: like_output(output.out),
        lse,
        grad_out: tensor(),
        grad_lse: None,
    };
    let gradients =
        softmax::backward(&client, &backward, &spec, Wanted::default()).expect("the shapes fit");
    client.read_one(gradients.query).expect("the kernels ran");

    let allocated = reserved() - before;
    assert!(
        (4 * NEEDED..=5 * NEEDED).contains(&(4 * allocated)),
        "{allocated} bytes were allocated, {NEEDED} are needed"
    );
}
