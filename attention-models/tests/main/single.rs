//! One query, for which no kernel is launched where the host can read the device's memory.

use attention_core::{AttentionSpec, CausalAlignment, DType as Numbers};
use attention_models::device::DeviceKind;
use burn::tensor::{DType, Device, s};

use crate::{
    bound::assert_output_agrees_with_the_oracle,
    support::{Case, Inputs},
};

fn on_every_device_in_every_dtype(check: impl Fn(&Device, DType)) {
    let dtypes = [
        (Numbers::F32, DType::F32),
        (Numbers::F16, DType::F16),
        (Numbers::BF16, DType::BF16),
    ];
    for kind in DeviceKind::all_found() {
        let device = kind.open().expect("the device was found");
        let offered = kind.facts().expect("the device was found").dtypes;
        for (numbers, dtype) in dtypes {
            if offered.contains(&numbers) {
                check(&device, dtype);
            }
        }
    }
}

#[test]
fn a_single_query_agrees_with_the_oracle() {
    on_every_device_in_every_dtype(|device, dtype| {
        let own_keys = Case {
            seq_q: 1,
            dtype,
            ..Case::new([2, 3, 67, 40])
        };
        let shared_keys = Case {
            heads: 6,
            kv_heads: 2,
            value_dim: 24,
            spec: AttentionSpec::default()
                .with_causal(CausalAlignment::BottomRight)
                .with_scale(0.7),
            ..own_keys
        };
        for case in [own_keys, shared_keys] {
            assert_output_agrees_with_the_oracle(&case, &Inputs::new(&case, device));
        }
    });
}

#[test]
fn a_single_query_reads_the_part_of_a_cache_that_it_is_given() {
    on_every_device_in_every_dtype(|device, dtype| {
        let case = Case {
            seq_q: 1,
            dtype,
            ..Case::new([2, 3, 90, 32])
        };
        let whole = Inputs::new(&case, device);
        let part = Inputs {
            key: whole.key.slice(s![.., .., 11..78, ..]),
            value: whole.value.slice(s![.., .., 11..78, ..]),
            ..whole
        };
        assert_output_agrees_with_the_oracle(&case, &part);
    });
}

#[test]
fn a_single_query_without_keys_gets_zero() {
    on_every_device_in_every_dtype(|device, dtype| {
        let case = Case {
            seq_q: 1,
            seq_kv: 0,
            dtype,
            ..Case::new([2, 3, 1, 8])
        };
        assert_output_agrees_with_the_oracle(&case, &Inputs::new(&case, device));
    });
}
