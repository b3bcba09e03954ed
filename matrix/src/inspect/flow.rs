//! The loops of a disassembly, and what is counted in the hottest of them.

use std::cmp::Reverse;

use crate::table::HotLoop;

/// What an instruction does, where that is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Multiplies matrices.
    Matrix,
    /// A fused multiplication and addition of each lane.
    Fma,
    /// Waits for the units of the cube.
    Barrier,
    SharedLoad,
    SharedStore,
    GlobalLoad,
    /// Exponential, reciprocal and other functions of the special unit.
    Special,
    /// Moves a number between lanes.
    Shuffle,
    /// A register that is kept in memory.
    Spill,
    /// Anything else.
    Other,
}

/// One instruction of a disassembly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    pub address: u64,
    pub kind: Kind,
    /// Where it may continue, beside the next instruction.
    pub target: Option<u64>,
    /// It never continues with the next instruction.
    pub leaves: bool,
}

/// How many instructions are of this kind.
pub fn count(instructions: &[Instruction], kind: Kind) -> u64 {
    let counted = instructions.iter().filter(|one| one.kind == kind);
    counted.count() as u64
}

/// The loop that holds the most matrix instructions, or the most fused multiplications where there are
/// none; of those that hold as many the innermost.
pub fn hot_loop(instructions: &[Instruction]) -> Option<HotLoop> {
    let loops = Flow::new(instructions).loops();
    let hottest = loops.iter().max_by_key(|body| {
        let of = |kind| {
            let counted = body.iter().filter(|&&at| instructions[at].kind == kind);
            counted.count()
        };
        let (matrix, fma) = (of(Kind::Matrix), of(Kind::Fma));
        let work = if matrix > 0 { (1, matrix) } else { (0, fma) };
        (work, Reverse(body.len()))
    })?;
    let body: Vec<_> = hottest.iter().map(|&at| instructions[at]).collect();
    let of = |kind| count(&body, kind);
    Some(HotLoop {
        instructions: body.len() as u64,
        matrix: of(Kind::Matrix),
        fma: of(Kind::Fma),
        barriers: of(Kind::Barrier),
        shared_loads: of(Kind::SharedLoad),
        shared_stores: of(Kind::SharedStore),
        global_loads: of(Kind::GlobalLoad),
        special: of(Kind::Special),
        shuffles: of(Kind::Shuffle),
        spills: of(Kind::Spill),
    })
}

/// Which instruction may follow which.
struct Flow {
    after: Vec<Vec<usize>>,
    before: Vec<Vec<usize>>,
}

impl Flow {
    fn new(instructions: &[Instruction]) -> Self {
        let mut flow = Self {
            after: vec![Vec::new(); instructions.len()],
            before: vec![Vec::new(); instructions.len()],
        };
        for (at, instruction) in instructions.iter().enumerate() {
            let next = (!instruction.leaves && at + 1 < instructions.len()).then_some(at + 1);
            let target = instruction.target.and_then(|address| {
                let found = instructions.binary_search_by_key(&address, |one| one.address);
                found.ok()
            });
            for to in next.into_iter().chain(target) {
                flow.after[at].push(to);
                flow.before[to].push(at);
            }
        }
        flow
    }

    /// The instructions of every loop: all that lie between an instruction that dominates a jump back to
    /// it and that jump. Code that a compiler moved behind the loop is part of it.
    fn loops(&self) -> Vec<Vec<usize>> {
        let order = self.order();
        let dominators = self.dominators(&order);
        let mut heads: Vec<(usize, Vec<usize>)> = Vec::new();
        for &from in &order {
            for &to in &self.after[from] {
                if dominates(to, from, &dominators) {
                    match heads.iter_mut().find(|(head, _)| *head == to) {
                        Some((_, jumps)) => jumps.push(from),
                        None => heads.push((to, vec![from])),
                    }
                }
            }
        }
        let reachable = |at: &usize| dominators[*at].is_some();
        let bodies = heads.into_iter().map(|(head, mut open)| {
            let mut inside = vec![false; self.after.len()];
            inside[head] = true;
            while let Some(at) = open.pop() {
                if !inside[at] {
                    inside[at] = true;
                    open.extend(self.before[at].iter().copied().filter(reachable));
                }
            }
            let all = inside.iter().enumerate();
            all.filter_map(|(at, &inside)| inside.then_some(at))
                .collect()
        });
        bodies.collect()
    }

    /// Reachable instructions, each before what it leads to but for loops.
    fn order(&self) -> Vec<usize> {
        let mut seen = vec![false; self.after.len()];
        let mut order = Vec::new();
        let mut open: Vec<(usize, usize)> = Vec::new();
        if let Some(entry) = seen.first_mut() {
            *entry = true;
            open.push((0, 0));
        }
        while let Some((at, edge)) = open.pop() {
            let Some(&to) = self.after[at].get(edge) else {
                order.push(at);
                continue;
            };
            open.push((at, edge + 1));
            if !seen[to] {
                seen[to] = true;
                open.push((to, 0));
            }
        }
        order.reverse();
        order
    }

    /// The nearest instruction that lies on every way to an instruction; the entry's is itself, those that
    /// nothing leads to have none (Cooper, Harvey and Kennedy, 2001).
    fn dominators(&self, order: &[usize]) -> Vec<Option<usize>> {
        let mut place = vec![0; self.after.len()];
        for (index, &at) in order.iter().enumerate() {
            place[at] = index;
        }
        let mut nearest: Vec<Option<usize>> = vec![None; self.after.len()];
        if let Some(&entry) = order.first() {
            nearest[entry] = Some(entry);
        }
        let mut changes = true;
        while changes {
            changes = false;
            for &at in order.iter().skip(1) {
                let known = self.before[at].iter().copied();
                let known = known.filter(|&from| nearest[from].is_some());
                let common = known.reduce(|one, other| meet(one, other, &nearest, &place));
                if common.is_some() && nearest[at] != common {
                    nearest[at] = common;
                    changes = true;
                }
            }
        }
        nearest
    }
}

/// The nearest instruction that dominates both.
fn meet(mut one: usize, mut other: usize, nearest: &[Option<usize>], place: &[usize]) -> usize {
    while one != other {
        if place[one] > place[other] {
            one = nearest[one].unwrap_or(other);
        } else {
            other = nearest[other].unwrap_or(one);
        }
    }
    one
}

fn dominates(head: usize, mut at: usize, nearest: &[Option<usize>]) -> bool {
    while at != head {
        match nearest[at] {
            Some(next) if next != at => at = next,
            _ => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Instructions at addresses 0, 1, 2 ..: a letter is a kind, `>3` may jump to 3, `!` never goes on.
    fn program(text: &str) -> Vec<Instruction> {
        let words = text.split_whitespace().enumerate();
        let instructions = words.map(|(address, word)| Instruction {
            address: address as u64,
            kind: match word.as_bytes()[0] {
                b'M' => Kind::Matrix,
                b'F' => Kind::Fma,
                b'B' => Kind::Barrier,
                _ => Kind::Other,
            },
            target: word
                .split_once('>')
                .map(|(_, to)| to.trim_end_matches('!').parse().expect("an address")),
            leaves: word.ends_with('!'),
        });
        instructions.collect()
    }

    fn counts(text: &str) -> Option<(u64, u64, u64)> {
        let found = hot_loop(&program(text))?;
        Some((found.instructions, found.matrix, found.barriers))
    }

    #[test]
    fn straight_code_has_no_loop() {
        assert_eq!(counts("o M F B o!"), None);
        assert_eq!(counts(""), None);
    }

    #[test]
    fn the_inner_of_two_loops_with_the_same_matrix_instructions_is_hot() {
        // 1 to 6 around 2 to 4.
        assert_eq!(counts("o o B M o>2 o o>1 o!"), Some((3, 1, 1)));
    }

    #[test]
    fn matrix_instructions_count_for_more_than_any_number_of_others() {
        assert_eq!(counts("F F F F o>0 M B o>5 o!"), Some((3, 1, 1)));
        assert_eq!(counts("o o>0 F B o>2 o!"), Some((3, 0, 1)));
    }

    #[test]
    fn code_that_was_moved_behind_the_loop_belongs_to_it() {
        // The loop 1 to 4 leaves to 6 and comes back from 7 to 3: no loop of its own.
        assert_eq!(counts("o M o>6 B o>1 o! o o>3!"), Some((6, 1, 1)));
    }

    #[test]
    fn code_that_nothing_leads_to_takes_no_part() {
        // 3 jumps into the loop, and is never reached.
        assert_eq!(counts("o M o>5! M>1 o o>1 o!"), Some((3, 1, 0)));
    }
}
