//! The module of differential attention: how it is packed, what it learns, what it refuses.

use attention_core::{AttentionSpec, CausalAlignment, DType};
use attention_kernels::catalog::Entry;
use attention_models::{
    cli::verify::{case::Case, upload},
    nn::{DifferentialAttention, DifferentialAttentionConfig, MhaInput},
    ops::{AttentionOptions, composition::unfused_attention},
};
use burn::tensor::{Device, Tensor};

fn read<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

fn config() -> DifferentialAttentionConfig {
    DifferentialAttentionConfig::new(32, 4, 3).with_n_kv_heads(Some(2))
}

fn module(device: &Device) -> DifferentialAttention {
    let spec = AttentionSpec::default().with_causal(CausalAlignment::BottomRight);
    config().with_spec(spec).init(device)
}

#[test]
fn the_module_is_projections_around_the_operation_packed_as_diffllama_packs() {
    let device = Device::flex();
    let module = module(&device);
    let tokens = upload(
        &Case::of(&Entry::new("x", [1, 1, 1, 9, 9, 32, 32]))
            .inputs
            .query,
        DType::F32,
        &device,
    );
    let tokens = tokens.reshape([1, 9, 32]);
    let context = module.forward(MhaInput::self_attn(tokens.clone()));

    // transformers' DiffLlamaAttention: values of both halves beside each other, repeated for both
    // maps; the first half of the query heads less lambda times the second.
    let heads = |tensor: Tensor<3>, heads: usize| tensor.reshape([1, 9, heads, 4]).swap_dims(1, 2);
    let query = heads(module.query.forward(tokens.clone()), 8);
    let key = heads(module.key.forward(tokens.clone()), 4);
    let value = heads(module.value.forward(tokens), 4).chunk(2, 1);
    let value = Tensor::cat(value, 3).repeat(&[1, 2, 1, 1]);
    let options = AttentionOptions::from(module.spec);
    let (maps, _) = unfused_attention(query, key, value, options).expect("it is accepted");
    let maps = maps.chunk(2, 1);
    let lambda = module.lambda().into_scalar::<f32>();
    let core = maps[0].clone() - maps[1].clone().mul_scalar(lambda);
    let rms = (core.clone() * core.clone())
        .mean_dim(3)
        .add_scalar(1e-5)
        .sqrt();
    let lambda_init = 0.8 - 0.6 * (-0.9f64).exp();
    let normed = (core / rms).mul_scalar(1.0 - lambda_init);
    let expected = module
        .output
        .forward(normed.swap_dims(1, 2).reshape([1, 9, 32]));
    let largest = read(context - expected)
        .into_iter()
        .fold(0.0, |a: f64, b| a.max(b.abs()));
    assert!(largest < 1e-5, "{largest}");
}

#[test]
fn every_parameter_of_the_module_receives_a_gradient() {
    let device = Device::flex().autodiff();
    let module = module(&device);
    let tokens = Tensor::<3>::ones([2, 5, 32], &device);
    let positions = Tensor::<1>::from_data([0.1, 0.4, -0.2, 0.9, 0.3], &device);
    let tokens = tokens * positions.reshape([1, 5, 1]);
    let gradients = module.forward(MhaInput::self_attn(tokens)).sum().backward();
    for linear in [&module.query, &module.key, &module.value, &module.output] {
        assert!(linear.weight.val().grad(&gradients).is_some());
    }
    let vectors = [
        &module.lambda_q1,
        &module.lambda_k1,
        &module.lambda_q2,
        &module.lambda_k2,
    ];
    for vector in vectors {
        let gradient = vector.val().grad(&gradients).expect("it is tracked");
        assert!(read(gradient).iter().any(|value| *value != 0.0));
    }
}

#[test]
fn configurations_out_of_range_are_refused() {
    let refused = |config: DifferentialAttentionConfig| match config.try_init(&Device::flex()) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("it was accepted"),
    };
    let new = DifferentialAttentionConfig::new;
    assert_eq!(
        refused(new(32, 0, 0)),
        "`n_heads` is 0; accepted: at least 1"
    );
    assert_eq!(
        refused(new(36, 4, 0)),
        "`d_model` is 36; accepted: a multiple of 2 * n_heads = 8, or a head_dim"
    );
    assert_eq!(
        refused(config().with_n_kv_heads(Some(3))),
        "`n_kv_heads` is 3; accepted: a divisor of n_heads = 4"
    );
    assert_eq!(
        refused(config().with_head_dim(Some(129))),
        "`head_dim` is 129; accepted: from 1 to 128"
    );
    assert_eq!(
        refused(config().with_epsilon(0.0)),
        "`epsilon` is 0; accepted: a finite number above 0"
    );
}
