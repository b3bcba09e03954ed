//! The query walk of the backward: each lane owns a query and gathers its gradient from the keys.
//!
//! ```text
//! dS = P * (dO V^T - delta),    dQ = scale * (dS * softcap') K
//! ```

use cubecl::prelude::*;

use super::{
    args::{Blueprint, Claims, Layouts, ScoreTable, Sizes},
    query_gradients::walk_queries,
    query_walk::QueryWalk,
    rows::{is_claimed, own_rows, tile_count, tile_index},
};
use crate::{
    block_map::BlockList,
    modification::{CapturedData, Code},
};

#[cube(launch_unchecked, address_type = "dynamic")]
pub(crate) fn attention_backward_query<
    T: Float,
    E: Float,
    M: Numeric,
    N: Size,
    W: Size,
    WV: Size,
    R: Size,
    RV: Size,
>(
    query: &[Vector<E, W>],
    key: &[Vector<E, W>],
    value: &[Vector<E, WV>],
    grad_out: &[Vector<E, WV>],
    mut stats: Box<[f32]>,
    mask: ComptimeOption<ScoreTable<M>>,
    bias: ComptimeOption<ScoreTable<T>>,
    blocks: ComptimeOption<BlockList>,
    claims: ComptimeOption<Claims>,
    grad_query: &mut [Vector<T, W>],
    layouts: Layouts,
    sizes: Sizes,
    captured: CapturedData,
    #[comptime] code: Code,
    #[comptime] blueprint: Blueprint,
    #[comptime] until_aside: Option<usize>,
    #[define(T)] _dtype: ElemType,
    #[define(E)] _operand_dtype: ElemType,
    #[define(M)] _mask_dtype: ElemType,
) {
    let layouts = layouts.packed(blueprint);
    let tile = tile_index(blueprint);
    if is_claimed(&claims, blueprint) && tile < tile_count::<N>(sizes.seq_q, blueprint) {
        let own = own_rows::<N>(tile, sizes.seq_q, blueprint);
        let walk = QueryWalk::<T, M, N>::new(
            &own,
            mask,
            bias,
            &captured,
            &sizes,
            comptime!(code.clone()),
            blueprint,
        );
        walk_queries::<T, E, M, N, W, WV, R, RV>(
            &own,
            &walk,
            query,
            key,
            value,
            grad_out,
            &mut stats,
            &blocks,
            &mut ComptimeOption::new_None(),
            grad_query,
            &layouts,
            &sizes,
            code,
            blueprint,
            until_aside,
        );
    }
}
