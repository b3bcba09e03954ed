//! A tensor of a module as a strided part of a file's tensor: reading gathers it, writing
//! scatters it, by the same numbers.

use super::names::{HeadLayout, Location, Projection, Source};

/// Where the elements of a module's tensor, in their row-major order, lie in a file's tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct View {
    /// The shape of the file's tensor.
    pub(super) file_shape: Vec<usize>,
    offset: usize,
    /// Lengths and distances in elements, outermost first.
    axes: Vec<(usize, usize)>,
}

impl View {
    /// The part of a file's tensor that `location` names, for a module's tensor of shape
    /// `wanted`; `experts` is how many experts the file's tensor holds.
    pub(super) fn new(
        location: &Location,
        wanted: &[usize],
        heads: Option<HeadLayout>,
        experts: usize,
    ) -> Result<Self, String> {
        match location.source {
            Source::Whole(_) => Ok(Self::block(wanted, 0, 1)),
            Source::Rows { part, parts, .. } => Ok(Self::block(wanted, part, parts)),
            Source::Transposed(_) => Self::columns(wanted, 0, 1),
            Source::Columns { part, parts, .. } => Self::columns(wanted, part, parts),
            Source::Heads { part, .. } => Self::heads(wanted, part, heads),
            Source::Expert(_) => Self::expert(wanted, location, experts, 0, 1),
            Source::ExpertColumns { part, parts, .. } => {
                Self::expert(wanted, location, experts, part, parts)
            }
        }
    }

    fn block(wanted: &[usize], part: usize, parts: usize) -> Self {
        let mut file_shape = wanted.to_vec();
        file_shape[0] *= parts;
        let length = wanted.iter().product();
        Self {
            file_shape,
            offset: part * length,
            axes: vec![(length, 1)],
        }
    }

    fn columns(wanted: &[usize], part: usize, parts: usize) -> Result<Self, String> {
        match *wanted {
            [_] => Ok(Self::block(wanted, part, parts)),
            [outputs, inputs] => Ok(Self {
                file_shape: vec![inputs, parts * outputs],
                offset: part * outputs,
                axes: vec![(outputs, 1), (inputs, parts * outputs)],
            }),
            _ => Err(not_a_matrix(wanted)),
        }
    }

    fn heads(
        wanted: &[usize],
        part: Projection,
        layout: Option<HeadLayout>,
    ) -> Result<Self, String> {
        let Some(HeadLayout { heads, kv_heads }) = layout else {
            return Err("how its heads are grouped is not known".to_string());
        };
        if kv_heads == 0 || heads % kv_heads != 0 {
            return Err(format!(
                "its {heads} heads do not share {kv_heads} key-value heads equally"
            ));
        }
        let queries = heads / kv_heads;
        let (first, own) = match part {
            Projection::Query => (0, queries),
            Projection::Key => (queries, 1),
            Projection::Value => (queries + 1, 1),
        };
        if !wanted[0].is_multiple_of(kv_heads * own) {
            let rows = wanted[0];
            return Err(format!(
                "{rows} rows are not {} equal heads",
                kv_heads * own
            ));
        }
        let head_rows = wanted[0] / (kv_heads * own);
        let head = head_rows * wanted[1..].iter().product::<usize>();
        let mut file_shape = wanted.to_vec();
        file_shape[0] = kv_heads * (queries + 2) * head_rows;
        Ok(Self {
            file_shape,
            offset: first * head,
            axes: vec![(kv_heads, (queries + 2) * head), (own * head, 1)],
        })
    }

    fn expert(
        wanted: &[usize],
        location: &Location,
        experts: usize,
        part: usize,
        parts: usize,
    ) -> Result<Self, String> {
        let Some(expert) = location.expert else {
            return Err("the number of its expert is not in the module's path".to_string());
        };
        let stored = parts * wanted[0];
        let (file_shape, axes) = match *wanted {
            [outputs] => (vec![experts, stored], vec![(outputs, parts)]),
            [outputs, inputs] => (
                vec![experts, inputs, stored],
                vec![(outputs, parts), (inputs, stored)],
            ),
            _ => return Err(not_a_matrix(wanted)),
        };
        let one = file_shape[1..].iter().product::<usize>();
        Ok(Self {
            file_shape,
            offset: expert * one + part,
            axes,
        })
    }

    /// Each head's rows in two halves, which Hugging Face rotates against each other, out of rows
    /// that llama.cpp keeps in pairs.
    pub(super) fn halves_of_pairs(shape: &[usize], heads: usize) -> Result<Self, String> {
        if heads == 0 || !shape[0].is_multiple_of(2 * heads) {
            return Err(format!("{} rows are not {heads} heads of pairs", shape[0]));
        }
        let row = shape[1..].iter().product::<usize>();
        let pairs = shape[0] / (2 * heads);
        Ok(Self {
            file_shape: shape.to_vec(),
            offset: 0,
            axes: vec![
                (heads, 2 * pairs * row),
                (2, row),
                (pairs, 2 * row),
                (row, 1),
            ],
        })
    }

    /// Whether the module's tensor is the whole of the file's.
    pub(super) fn is_whole(&self) -> bool {
        let length = self.file_shape.iter().product();
        self.offset == 0 && self.axes == [(length, 1)]
    }

    /// The elements of the module's tensor out of the file's bytes.
    pub(super) fn gather(&self, file: &[u8], element_size: usize) -> Vec<u8> {
        let length: usize = self.axes.iter().map(|(length, _)| length).product();
        let mut taken = Vec::with_capacity(length * element_size);
        self.runs(|at, length| {
            taken.extend_from_slice(&file[at * element_size..(at + length) * element_size]);
        });
        taken
    }

    /// Puts the elements of the module's tensor where they belong in the file's bytes.
    pub(super) fn scatter(&self, taken: &[u8], file: &mut [u8], element_size: usize) {
        let mut rest = taken;
        self.runs(|at, length| {
            let (run, after) = rest.split_at(length * element_size);
            file[at * element_size..(at + length) * element_size].copy_from_slice(run);
            rest = after;
        });
    }

    /// Start and length of each run of neighbours in the file, in the module's order.
    fn runs(&self, mut visit: impl FnMut(usize, usize)) {
        let mut starts = vec![self.offset];
        let (run, outer) = match self.axes.split_last() {
            Some((&(length, 1), outer)) => (length, outer),
            _ => (1, self.axes.as_slice()),
        };
        for &(length, distance) in outer.iter().take(outer.len().saturating_sub(1)) {
            starts = starts
                .iter()
                .flat_map(|start| (0..length).map(move |index| start + index * distance))
                .collect();
        }
        let (length, distance) = outer.last().copied().unwrap_or((1, 0));
        for start in starts {
            for index in 0..length {
                visit(start + index * distance, run);
            }
        }
    }
}

fn not_a_matrix(wanted: &[usize]) -> String {
    format!("the model has the shape {wanted:?} for it; accepted: a matrix or a vector")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(source: Source, wanted: &[usize], expert: Option<usize>) -> View {
        let location = Location {
            name: String::new(),
            source,
            expert,
        };
        let heads = HeadLayout {
            heads: 4,
            kv_heads: 2,
        };
        View::new(&location, wanted, Some(heads), 3).unwrap()
    }

    /// The numbers of the file's elements that make up the tensor.
    fn taken(view: &View) -> Vec<u8> {
        let length = view.file_shape.iter().product::<usize>();
        let file: Vec<u8> = (0..length as u8).collect();
        let taken = view.gather(&file, 1);
        let mut back = vec![u8::MAX; length];
        view.scatter(&taken, &mut back, 1);
        for (number, value) in back.iter().enumerate() {
            let expected = if taken.contains(&(number as u8)) {
                number as u8
            } else {
                u8::MAX
            };
            assert_eq!(*value, expected, "scatter is not the inverse of gather");
        }
        taken
    }

    #[test]
    fn a_block_of_columns_is_transposed_and_its_bias_is_a_block() {
        let columns = Source::Columns {
            of: "c_attn",
            part: 1,
            parts: 3,
        };
        let weight = view(columns, &[2, 4], None);
        assert_eq!(weight.file_shape, [4, 6]);
        assert_eq!(taken(&weight), [2, 8, 14, 20, 3, 9, 15, 21]);
        let bias = view(columns, &[2], None);
        assert_eq!(
            (bias.file_shape.clone(), taken(&bias)),
            (vec![6], vec![2, 3])
        );
        let whole = view(Source::Transposed("c_proj"), &[2, 3], None);
        assert_eq!(taken(&whole), [0, 2, 4, 1, 3, 5]);
    }

    #[test]
    fn grouped_heads_are_taken_from_every_group() {
        let rows = |part, rows| {
            let view = view(Source::Heads { of: "qkv", part }, &[rows], None);
            assert_eq!(view.file_shape, [8]);
            taken(&view)
        };
        assert_eq!(rows(Projection::Query, 4), [0, 1, 4, 5]);
        assert_eq!(rows(Projection::Key, 2), [2, 6]);
        assert_eq!(rows(Projection::Value, 2), [3, 7]);
        let key = Source::Heads {
            of: "qkv",
            part: Projection::Key,
        };
        let weight = view(key, &[4, 3], None);
        assert_eq!(weight.file_shape, [16, 3]);
        let expected: Vec<u8> = (12..18).chain(36..42).collect();
        assert_eq!(taken(&weight), expected);
    }

    #[test]
    fn pairs_of_rows_become_halves_of_heads() {
        let view = View::halves_of_pairs(&[8, 2], 2).unwrap();
        let expected = [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15];
        assert_eq!(taken(&view), expected);
        assert!(View::halves_of_pairs(&[6, 2], 2).is_err());
    }

    #[test]
    fn an_expert_is_transposed_out_of_all_experts() {
        let outer = view(Source::Expert("down"), &[2, 3], Some(1));
        assert_eq!(outer.file_shape, [3, 3, 2]);
        assert_eq!(taken(&outer), [6, 8, 10, 7, 9, 11]);
        let gate = Source::ExpertColumns {
            of: "gate_up",
            part: 1,
            parts: 2,
        };
        let weight = view(gate, &[2, 3], Some(2));
        assert_eq!(weight.file_shape, [3, 3, 4]);
        assert_eq!(taken(&weight), [25, 29, 33, 27, 31, 35]);
        let bias = view(gate, &[2], Some(2));
        assert_eq!(
            (bias.file_shape.clone(), taken(&bias)),
            (vec![3, 4], vec![9, 11])
        );
    }
}
