//! Block maps: the same results as without, from the blocks that a mask leaves anything of.

use attention_core::{AttentionSpec, CausalAlignment, DType};
use attention_kernels::catalog::{Entry, Sizes};
use attention_models::{
    cli::verify::{
        case::Case,
        variants::{integers, show},
    },
    ops::{AttentionOptions, BlockMap, BlockShape, MaskMod, Tile, try_attention, variants},
};
use burn::tensor::{Device, Tensor};

use crate::support::{assert_within_bounds, devices};

type Visible = fn([usize; 4]) -> bool;

/// A case that sees through `mask`, which is made into a map of this shape.
fn mapped(
    name: &str,
    sizes: Sizes,
    spec: AttentionSpec,
    shape: BlockShape,
    mask: fn(&Device) -> MaskMod,
    visible: Visible,
) -> Case {
    let mut case = Case::of(&Entry::new(name, sizes).with_spec(spec));
    show(&mut case, visible);
    case.with_code(move |device| {
        let map = BlockMap::new(mask(device), shape, device);
        AttentionOptions::from(spec).with_block_map(map)
    })
}

fn window(_: &Device) -> MaskMod {
    variants::sliding_window(70, 10, 0)
}

fn in_window([_, _, i, j]: [usize; 4]) -> bool {
    j + 70 >= i && j <= i + 10
}

fn first_keys(device: &Device) -> MaskMod {
    variants::padding(integers(&[700], device))
}

fn in_first_keys([_, _, _, j]: [usize; 4]) -> bool {
    j < 700
}

fn padding(device: &Device) -> MaskMod {
    variants::padding(integers(&[300, 70], device))
}

fn before_padding([batch, _, _, j]: [usize; 4]) -> bool {
    j < [300, 70][batch]
}

#[test]
fn a_map_gives_what_its_mask_gives_forward_and_backward() {
    let causal = AttentionSpec::default().with_causal(CausalAlignment::BottomRight);
    let cases = [
        mapped(
            "window",
            [2, 4, 2, 333, 333, 32, 48],
            AttentionSpec::default(),
            BlockShape::new(333, 333),
            window,
            in_window,
        ),
        mapped(
            "wide blocks, and causal besides",
            [1, 2, 2, 290, 410, 64, 64],
            causal,
            BlockShape::new(290, 410).with_blocks(128, 192),
            window,
            in_window,
        ),
        mapped(
            "lists for each batch element and head",
            [2, 4, 1, 200, 310, 40, 16],
            causal,
            BlockShape::new(200, 310).with_batch(2).with_heads(4),
            padding,
            before_padding,
        ),
        // Steps of a GPU whose number of keys divides no block.
        mapped(
            "head dim 80 to 160",
            [1, 2, 1, 150, 150, 80, 160],
            AttentionSpec::default(),
            BlockShape::new(150, 150),
            window,
            in_window,
        ),
        mapped(
            "few queries, keys in parts",
            [1, 1, 1, 27, 900, 32, 32],
            AttentionSpec::default(),
            BlockShape::new(27, 900).with_blocks(64, 128),
            first_keys,
            in_first_keys,
        ),
        mapped(
            "no key for some queries",
            [1, 2, 2, 200, 64, 16, 16],
            AttentionSpec::default(),
            BlockShape::new(200, 64),
            window,
            in_window,
        ),
    ];
    for case in cases {
        assert_within_bounds(&case, DType::F32);
    }
}

#[test]
fn a_map_works_in_half_precision() {
    let case = mapped(
        "window",
        [1, 2, 2, 200, 200, 64, 64],
        AttentionSpec::default(),
        BlockShape::new(200, 200),
        window,
        in_window,
    );
    assert_within_bounds(&case, DType::F16);
}

#[test]
fn a_map_says_of_every_tile_whether_it_is_empty_partial_or_full() {
    let shape = BlockShape::new(300, 500).with_batch(2).with_blocks(64, 128);
    let sees = |at: [usize; 4]| in_window(at) || (at[3] < [130, 40][at[0]]);
    for kind in devices() {
        let device = kind.open().expect("the device was found");
        let lengths = integers(&[130, 40], &device);
        let mask = window(&device).or(variants::padding(lengths));
        let map = BlockMap::new(mask, shape, &device);
        let of_tile = |n: usize| {
            let (batch, row, column) = (n / 20, n / 4 % 5, n % 4);
            let queries = row * 64..(row * 64 + 64).min(300);
            let keys = column * 128..(column * 128 + 128).min(500);
            let pairs = queries.flat_map(|i| keys.clone().map(move |j| [batch, 0, i, j]));
            let shown: Vec<bool> = pairs.map(sees).collect();
            match shown.iter().filter(|&&shown| shown).count() {
                0 => Tile::Empty,
                count if count == shown.len() => Tile::Full,
                _ => Tile::Partial,
            }
        };
        let expected: Vec<_> = (0..40).map(of_tile).collect();
        assert_eq!(map.tiles(), expected, "{kind}");
        let empty = expected.iter().filter(|&&tile| tile == Tile::Empty);
        assert_eq!(map.sparsity(), empty.count() as f64 / 40.0, "{kind}");
    }
}

#[test]
fn a_map_of_another_length_or_beside_another_mask_is_refused() {
    let device = Device::flex();
    let map = |q, kv| BlockMap::new(variants::causal(0), BlockShape::new(q, kv), &device);
    let refusal = |options| {
        let x = Tensor::<4>::ones([2, 3, 100, 8], &device);
        match try_attention(x.clone(), x.clone(), x, options) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("it was accepted"),
        }
    };
    let options = AttentionOptions::default();
    assert_eq!(
        refusal(options.clone().with_block_map(map(100, 128))),
        "`block_map` has shape [1, 1, 100, 128]; accepted: [2 or 1, 3 or 1, 100, 100], as the \
         attention"
    );
    assert_eq!(
        refusal(
            options
                .with_block_map(map(100, 100))
                .with_mask_mod(variants::first_tokens(1))
        ),
        "`mask_mod` is a mask beside a block map; accepted: a block map made from both, \
         `BlockMap::new(mask.and(other), ..)`"
    );
}
