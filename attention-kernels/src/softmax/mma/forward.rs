//! The forward walk: lanes share queries and meet the keys step by step.

use cubecl::prelude::*;

use super::{
    edge::hide_unseen,
    soften::{Scores, Softmax, score_factor},
};
use crate::{
    block_map::BlockList,
    modification::{CapturedData, Code},
    softmax::{
        args::{Blueprint, Layout, ScoreTable, Sizes},
        query_walk::QueryWalk,
        rows::{key_head, own_rows, tile_index, value_head},
        split::{KeyPart, KeySplit},
    },
    tile::{
        Arrival, Aside, Reads, Rows, Staged, Stream, Sums, Together, Tracks, as_laid_out, filled,
        matrix_accumulate, matrix_products, packed, set_aside, store_sums, sync_tokens, writes_row,
    },
};

/// [`attention_forward`](crate::softmax::forward) with tokens in shared memory: two barriers a step. `alike`: keys and
/// values lie alike.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(crate) fn matrix_forward<
    T: Float,
    E: Float,
    F: Float,
    M: Numeric,
    N: Size,
    W: Size,
    WV: Size,
    P: Size,
    O: Size,
    R: Size,
    C: Size,
>(
    query: &[Vector<E, P>],
    key: &[Vector<E, W>],
    value: &[Vector<E, WV>],
    mask: ComptimeOption<ScoreTable<M>>,
    bias: ComptimeOption<ScoreTable<T>>,
    blocks: ComptimeOption<BlockList>,
    split: ComptimeOption<KeySplit>,
    out: &mut [Vector<F, O>],
    lse: &mut [f32],
    query_layout: Layout,
    key_layout: Layout,
    value_layout: Layout,
    sizes: Sizes,
    captured: CapturedData,
    #[comptime] code: Code,
    #[comptime] blueprint: Blueprint,
    #[comptime] kind: Scores,
    #[comptime] alike: bool,
    #[comptime] until_aside: Option<usize>,
    #[define(T)] _dtype: ElemType,
    #[define(E)] _operand_dtype: ElemType,
    #[define(F)] _out_dtype: ElemType,
    #[define(M)] _mask_dtype: ElemType,
) {
    let query_layout = packed(&query_layout, blueprint.packed);
    let key_layout = packed(&key_layout, blueprint.packed);
    let value_layout = packed(&value_layout, blueprint.packed);
    let tile = as_laid_out(blueprint.tile);
    let blueprint = comptime!(Blueprint { tile, ..blueprint });
    // Nothing but causality and the end of the keys hides a score.
    let apart = comptime!(
        kind == Scores::Products
            && blueprint.blocks.is_none()
            && !(blueprint.mask || code.masks() || code.reweighs())
    );
    let part = KeyPart::new(&split, tile_index(blueprint), &sizes);
    let own = own_rows::<N>(part.tile, sizes.seq_q, blueprint);
    let walk = QueryWalk::<T, M, N>::new(
        &own,
        mask,
        bias,
        &captured,
        &sizes,
        comptime!(code.clone()),
        blueprint,
    );
    let mut rows = Rows::<E, R>::new(
        comptime!(tile.held(blueprint.head_dim)),
        blueprint.units,
        tile,
    );
    rows.load::<P>(
        query,
        &query_layout,
        own.batch,
        own.head,
        &own.rows,
        sizes.seq_q,
    );
    let kv_head = key_head(own.head, blueprint);
    let last = max(sizes.seq_kv, 1) - 1;
    let (key_width, value_width) = (W::value(), WV::value());
    let arrival = comptime!(Arrival::new(
        tile.spread,
        [key_width, value_width],
        Arrival::Copied
    ));
    let mut tracks = Tracks::new::<W, WV>(
        Stream::of(&key_layout, own.batch, kv_head, last),
        Stream::of(
            &value_layout,
            own.batch,
            value_head(kv_head, blueprint),
            last,
        ),
        sizes.zero,
        comptime!([blueprint.head_dim, blueprint.value_dim].map(|dim| tile.held(dim))),
        blueprint.units,
        tile,
        comptime!(Together {
            follows: blueprint.blocks.is_none(),
            alike,
            held: arrival != Arrival::Stored,
        }),
    );
    let mut keys = Staged::<E, W>::new(
        comptime!(tile.held(blueprint.head_dim)),
        blueprint.units,
        tile,
        comptime!(Reads::products()),
        arrival,
    );
    let mut values = Staged::<E, WV>::new(
        comptime!(tile.held(blueprint.value_dim)),
        blueprint.units,
        tile,
        comptime!(Reads::sums()),
        arrival,
    );

    let layout = comptime!(Sums {
        dim: blueprint.value_dim,
        counts: tile.terms == 1 && !code.reweighs(),
    });
    let mut sums = filled::<C>(0.0f32, comptime!(layout.length(tile)), true);
    let mut softmax = Softmax::<N>::new(sizes.scale, kind, tile);
    let mut scores = filled::<N>(0.0f32, comptime!(tile.slots() * tile.groups), true);
    let factor = score_factor(sizes.scale, kind);

    let first = part.first_row + (own.batch * sizes.heads + own.head) * sizes.seq_q;
    let mut aside = Aside::<N>::new(comptime!(tile.groups), until_aside);
    let steps = walk.steps_between(&blocks, part.start, part.end, blueprint);
    // There is one place for each.
    let place = 0usize.runtime();
    if steps.count > 0 {
        tracks.seek(steps.at(0usize.runtime()).token);
        tracks.fetch_first::<E, W>(&mut keys, key, place);
    }
    // Steps that every query sees whole have a loop of their own, without a mask in it.
    let whole = if apart {
        min(walk.whole_steps(part.start, tile), steps.count)
    } else {
        0usize.runtime()
    };
    #[unroll]
    for turn in 0..comptime!(if apart { 2usize } else { 1 }) {
        let (from, to) = if comptime!(apart && turn == 0) {
            (0usize.runtime(), whole)
        } else {
            (whole, steps.count)
        };
        for index in from..to {
            let step = steps.at(index);
            let token = step.token;
            keys.store();
            sync_tokens(arrival);
            tracks.fetch_second::<E, WV>(&mut values, value, place);
            matrix_products::<E, N, R, C, W>(
                &rows,
                &keys,
                &mut scores,
                factor,
                blueprint.head_dim,
                false,
                tile,
            );
            walk.modify(&mut scores, token, &sizes, blueprint);
            if comptime!(!apart) {
                walk.hide(&mut scores, step, &sizes, blueprint);
            } else if comptime!(turn == 1) {
                hide_unseen::<N>(&mut scores, own.rows[0], token, &sizes, blueprint);
            }
            softmax.soften::<C>(&mut scores, &mut sums, &mut aside, layout);
            walk.reweigh(&mut scores, token, &sizes, blueprint);
            values.store();
            tracks.advance(steps.token_after(index));
            if comptime!(arrival == Arrival::Stored) {
                // A compiler would move loads behind the product, to where they are stored, but for the barrier.
                tracks.fetch_first::<E, W>(&mut keys, key, place);
                sync_cube();
            } else {
                sync_tokens(arrival);
                tracks.fetch_first::<E, W>(&mut keys, key, place);
            }
            matrix_accumulate::<E, N, R, C, WV>(&mut sums, &scores, &values, layout, tile);
            set_aside::<F, N, C, O>(
                &mut aside,
                &mut sums,
                out,
                &own.rows,
                first,
                sizes.seq_q,
                layout,
                tile,
            );
        }
    }

    let (factors, row_lse) = softmax.finish::<C>(&sums, sizes.neg_inf, layout);
    store_sums::<F, N, C, O>(
        &sums,
        &factors,
        out,
        &own.rows,
        first,
        sizes.seq_q,
        &aside,
        layout,
        tile,
    );
    if writes_row(tile.spread) {
        #[unroll]
        for g in 0..comptime!(tile.groups) {
            let row = own.rows[g];
            if row < sizes.seq_q {
                lse[first + row] = row_lse[g];
            }
        }
    }
}
