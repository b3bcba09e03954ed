//! A block: threads that meet.

use std::{cell::Cell, fmt::Write as _};

use super::{
    fault::Fault,
    fiber::{Fiber, give_way},
    guarded::Guarded,
    request::{Meeting, Place, Request},
    schedule::Order,
    warp::{self, LANES, Lanes},
};

/// A compiled kernel, called once for each thread.
pub(super) type Program = unsafe extern "C" fn(*const *mut ());

/// A thread of the block that runs.
struct Thread {
    place: Place,
    program: Program,
    arguments: *const *mut (),
    /// What it waits for: on its own stack.
    request: *mut Request,
    ended: bool,
}

impl Thread {
    fn is_ready(&self) -> bool {
        !self.ended && self.request.is_null()
    }

    /// What the thread waits for.
    fn waiting(&self) -> Option<&Request> {
        if self.ended {
            return None;
        }
        // SAFETY: a request lies on the stack of a thread that waits.
        unsafe { self.request.as_ref() }
    }
}

thread_local! {
    static CURRENT: Cell<*mut Thread> = const { Cell::new(std::ptr::null_mut()) };
}

/// Where the running thread is; `shim.h` calls it.
pub(super) extern "C" fn place() -> *const Place {
    // SAFETY: kernels run on threads of blocks only.
    unsafe { &raw const (*CURRENT.get()).place }
}

/// The running thread waits; `shim.h` calls it.
pub(super) extern "C" fn meet(request: *mut Request) {
    // SAFETY: kernels run on threads of blocks only, and those on fibers.
    unsafe {
        (*CURRENT.get()).request = request;
        give_way();
    }
}

extern "C" fn live(work: *mut ()) {
    let thread = work.cast::<Thread>();
    // SAFETY: the block keeps its threads in place while they run.
    unsafe {
        ((*thread).program)((*thread).arguments);
        (*thread).ended = true;
    }
}

/// What is the same for every block of a launch.
pub(super) struct Launch<'a> {
    pub program: Program,
    /// Where each argument's value lies.
    pub arguments: &'a [*mut ()],
    pub grid: [u32; 3],
    pub block: [u32; 3],
    /// The lowered text, to say where threads wait.
    pub text: &'a str,
}

/// Runs the block at `index` of the grid.
///
/// # Errors
/// Threads that never meet, meet at different places, break an instruction's rule or write beside
/// shared memory.
///
/// # Safety
/// The arguments have to be those of the program.
pub(super) unsafe fn run(
    launch: &Launch,
    index: [u32; 3],
    order: &mut Order,
    fibers: &mut [Fiber],
    shared: &mut Guarded,
) -> Result<(), Fault> {
    shared.forget();
    let memory = shared.as_mut_ptr();
    let [width, height, depth] = launch.block;
    let places = (0..width * height * depth).map(|n| Place {
        thread: [n % width, n / width % height, n / (width * height)],
        block: index,
        block_dim: launch.block,
        grid_dim: launch.grid,
        shared: memory,
    });
    let threads = places.map(|place| Thread {
        place,
        program: launch.program,
        arguments: launch.arguments.as_ptr(),
        request: std::ptr::null_mut(),
        ended: false,
    });
    let mut block = Block {
        threads: threads.collect(),
        text: launch.text,
        index,
    };
    for fiber in fibers.iter_mut() {
        fiber.prepare();
    }
    // SAFETY: by the caller.
    unsafe { block.run(order, fibers, shared) }?;
    if fibers.iter().any(Fiber::overflowed) {
        return Err(Fault::Stack);
    }
    shared.check(|| "shared memory".into())
}

struct Block<'a> {
    threads: Vec<Thread>,
    text: &'a str,
    index: [u32; 3],
}

impl Block<'_> {
    unsafe fn run(
        &mut self,
        order: &mut Order,
        fibers: &mut [Fiber],
        shared: &Guarded,
    ) -> Result<(), Fault> {
        let warps = self.threads.len().div_ceil(LANES);
        loop {
            let is_ready = |warp: &usize| self.warp(*warp).iter().any(Thread::is_ready);
            let ready: Vec<usize> = (0..warps).filter(is_ready).collect();
            if ready.is_empty() {
                if self.threads.iter().all(|thread| thread.ended) {
                    return Ok(());
                }
                self.pass_barrier()?;
                continue;
            }
            let warp = order.choose(&ready);
            let first = warp * LANES;
            let mut lanes: Vec<usize> = (first..self.threads.len().min(first + LANES)).collect();
            order.arrange(&mut lanes);
            for lane in lanes {
                let thread = &raw mut self.threads[lane];
                // SAFETY: the thread stays in place, and its program is the caller's.
                unsafe {
                    if (*thread).is_ready() {
                        CURRENT.set(thread);
                        fibers[lane].run(live, thread.cast());
                    }
                }
            }
            self.meet_in_warp(warp, shared)?;
        }
    }

    fn warp(&self, warp: usize) -> &[Thread] {
        let first = warp * LANES;
        &self.threads[first..self.threads.len().min(first + LANES)]
    }

    /// Every thread waits: at one barrier, or for ever.
    fn pass_barrier(&mut self) -> Result<(), Fault> {
        let mut line = None;
        for request in self.threads.iter().filter_map(Thread::waiting) {
            let same = *line.get_or_insert(request.line) == request.line;
            if request.meeting() != Some(Meeting::Block) || !same {
                return Err(Fault::Deadlock {
                    block: self.index,
                    waiting: self.waiting(0..self.threads.len()),
                });
            }
        }
        for thread in &mut self.threads {
            thread.request = std::ptr::null_mut();
        }
        Ok(())
    }

    /// The lanes of a warp have run as far as they can alone.
    fn meet_in_warp(&mut self, warp: usize, shared: &Guarded) -> Result<(), Fault> {
        let first = warp * LANES;
        let range = first..self.threads.len().min(first + LANES);
        let waiting = || self.warp(warp).iter().filter_map(Thread::waiting);
        let Some(met) = waiting().next() else {
            return Ok(());
        };
        let (kind, line, argument) = (met.kind, met.line, met.argument);
        let here = |other: &Request| (other.kind, other.line) == (kind, line);
        let diverges = !waiting().all(here);
        let meeting = met.meeting();
        let (false, Some(meeting)) = (diverges, meeting) else {
            return Err(Fault::Divergent {
                block: self.index,
                waiting: self.waiting(range),
            });
        };
        if meeting == Meeting::Block {
            return Ok(());
        }
        let loads = matches!(meeting, Meeting::LoadMatrices { .. });
        let mut lanes: Lanes = std::array::from_fn(|_| None);
        for (lane, thread) in lanes.iter_mut().zip(&mut self.threads[range]) {
            if !thread.ended {
                // SAFETY: the request lies on the stack of a thread that waits.
                *lane = unsafe { thread.request.as_mut() };
                thread.request = std::ptr::null_mut();
            }
        }
        let agree = lanes.iter().flatten().all(|lane| lane.argument == argument);
        let rule = if loads && !agree {
            Err("the lanes have to load as many matrices")
        } else {
            warp::meet(meeting, &mut lanes, shared.as_slice())
        };
        rule.map_err(|rule| Fault::Operand {
            block: self.index,
            place: self.place(meeting, line),
            rule,
        })
    }

    /// A line of the text.
    fn place(&self, meeting: Meeting, line: u32) -> String {
        let text = self.text.lines().nth((line as usize).saturating_sub(1));
        let text = text.unwrap_or_default().trim();
        format!("{} in line {line} (`{text}`)", meeting.name())
    }

    /// Which of these threads wait where.
    fn waiting(&self, threads: std::ops::Range<usize>) -> String {
        let mut text = String::new();
        let mut at = None;
        for (number, thread) in threads.clone().zip(&self.threads[threads]) {
            let here = thread.waiting().map(|request| (request.kind, request.line));
            if number > 0 && at == Some(here) {
                continue;
            }
            at = Some(here);
            let place = match here {
                None if thread.ended => "ended".into(),
                None => "runs".into(),
                Some((kind, line)) => match Meeting::of(kind) {
                    Some(meeting) => self.place(meeting, line),
                    None => format!("line {line}"),
                },
            };
            let separator = if text.is_empty() { "" } else { "; " };
            let _ = write!(text, "{separator}from thread {number} on {place}");
        }
        text
    }
}
