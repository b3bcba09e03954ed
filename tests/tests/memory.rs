//! Memory grows with the sequence, not with its square.

use attention_core::{AttentionSpec, DType};
use attention_kernels::{
    TensorRef,
    block_map::{BlockShape, block_map},
    device::elem_type,
    modification::{Mask, Modification},
    softmax::{self, BackwardInputs, Inputs, Wanted},
    variants,
};
use attention_models::device::DeviceKind;
use cubecl::{MemoryScope, client::Client};

/// Runs forward and backward over `[1, 8, seq, 64]` in f32 and returns how many bytes that allocated.
fn allocated(seq: usize, mask: Option<Mask<()>>) -> u64 {
    let shape = [1, 8, seq, 64];
    let client: Client = DeviceKind::Cpu
        .client()
        .expect("the processor is always there");
    let reserved = || {
        client
            .memory_report(MemoryScope::CurrentStream)
            .usage()
            .bytes_reserved
    };
    client.memory_cleanup().expect("nothing failed before");
    let before = reserved();
    let zeros = vec![0u8; tensor(seq) as usize];
    let tensor = || {
        let handle = client.create_from_slice(&zeros);
        TensorRef::contiguous(handle, shape, elem_type(DType::F32))
    };
    let lengths = (|_: &()| 0, |_: &()| 0);
    let masked = mask.is_some();
    let (modification, _) = Modification::new(None, mask, None, lengths);
    let map = masked.then(|| {
        let shape = BlockShape::new(seq, seq);
        block_map(&client, &modification, None, None, shape).expect("the mask can be mapped")
    });
    let inputs = Inputs {
        modification,
        block_map: map,
        ..Inputs::new(tensor(), tensor(), tensor())
    };
    let spec = AttentionSpec::default();
    let output = softmax::forward(&client, &inputs, &spec).expect("the shapes fit");
    let like_output = |handle| TensorRef::contiguous(handle, shape, elem_type(DType::F32));
    let lse = TensorRef::contiguous(output.lse, [1, 8, seq, 1], elem_type(DType::F32));
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
    reserved() - before
}

/// Bytes of one `[1, 8, seq, 64]` in f32.
fn tensor(seq: usize) -> u64 {
    8 * seq as u64 * 64 * 4
}

#[test]
fn forward_and_backward_take_little_more_than_their_inputs_and_outputs() {
    const SEQ: usize = 8192;
    // q, k, v, o, do, dq, dk, dv and lse.
    let needed = 8 * tensor(SEQ) + 8 * SEQ as u64 * 4;
    let full = allocated(SEQ, None);
    assert!(
        (4 * needed..=5 * needed).contains(&(4 * full)),
        "{full} bytes were allocated, {needed} are needed"
    );

    // A window of 1024 among 32768 tokens.
    let windowed = allocated(4 * SEQ, Some(variants::sliding_window(1023, 0, 0)));
    assert!(
        (32 * tensor(SEQ)..1 << 30).contains(&windowed),
        "{windowed} bytes were allocated, less than 1 GiB may be"
    );
}
