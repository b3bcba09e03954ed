//! Threads of one core that give way to each other where they say so: a stack each, and a switch that
//! keeps what a call has to keep. `ucontext` would make a system call per switch.

use std::cell::Cell;

use super::fault::Fault;

/// Bytes of a stack: what a compiler that spills everything asks for. Pages that are not touched
/// take no memory.
const STACK: usize = 1 << 20;

/// The lowest bytes of a stack, which nobody may reach.
const CANARY: usize = 4096;
const UNTOUCHED: u8 = 0xa5;

/// A stack, and where its fiber goes on.
pub(super) struct Fiber {
    stack: Box<[u8]>,
    /// The fiber's stack pointer while it does not run.
    resume: *mut u8,
}

/// What a fiber does: it must not return before its work is done, nor unwind.
pub(super) type Body = extern "C" fn(*mut ());

thread_local! {
    /// What the fiber that starts next runs.
    static NEXT: Cell<Option<(Body, *mut ())>> = const { Cell::new(None) };
    /// The stack pointer of whoever runs the fibers.
    static RUNNER: Cell<*mut u8> = const { Cell::new(std::ptr::null_mut()) };
    /// Where the running fiber's stack pointer is kept.
    static RUNNING: Cell<*mut Fiber> = const { Cell::new(std::ptr::null_mut()) };
}

impl Fiber {
    /// A stack without work.
    ///
    /// # Errors
    /// A processor or system whose switch is not written.
    pub fn new() -> Result<Self, Fault> {
        if !machine::SUPPORTED {
            return Err(Fault::Host);
        }
        let mut stack = vec![0; STACK].into_boxed_slice();
        stack[..CANARY].fill(UNTOUCHED);
        Ok(Self {
            stack,
            resume: std::ptr::null_mut(),
        })
    }

    /// The fiber will begin with its work from the start.
    pub fn prepare(&mut self) {
        let end = self.stack.as_mut_ptr_range().end;
        // SAFETY: the frame lies within the stack, below its end.
        self.resume = unsafe { machine::first_frame(end, begin) };
    }

    /// Runs the fiber until it gives way or ends.
    ///
    /// # Safety
    /// `body` and `work` have to be the same until the fiber ends, and sound to call.
    pub unsafe fn run(&mut self, body: Body, work: *mut ()) {
        NEXT.set(Some((body, work)));
        RUNNING.set(self);
        let mut here = std::ptr::null_mut();
        RUNNER.set(&raw mut here as *mut u8);
        // SAFETY: `resume` is a stack pointer that `first_frame` or `switch` left.
        unsafe { machine::switch(&raw mut here, self.resume) };
    }

    /// Whether the stack was too small.
    pub fn overflowed(&self) -> bool {
        self.stack[..CANARY].iter().any(|&byte| byte != UNTOUCHED)
    }
}

/// Gives way to whoever runs this fiber.
///
/// # Safety
/// Only on a fiber's stack.
pub(super) unsafe fn give_way() {
    let fiber = RUNNING.get();
    let runner = RUNNER.get() as *const *mut u8;
    // SAFETY: `run` of this fiber is waiting, so that both are alive.
    unsafe { machine::switch(&raw mut (*fiber).resume, *runner) };
}

extern "C" fn begin() -> ! {
    if let Some((body, work)) = NEXT.get() {
        body(work);
    }
    loop {
        // SAFETY: this is a fiber's stack.
        unsafe { give_way() };
    }
}

#[cfg(all(unix, target_arch = "x86_64"))]
mod machine {
    pub const SUPPORTED: bool = true;

    /// Six registers, and where to return to; a callee finds its stack 8 off a multiple of 16.
    pub unsafe fn first_frame(end: *mut u8, entry: extern "C" fn() -> !) -> *mut u8 {
        let end = (end as usize & !15) as *mut usize;
        // SAFETY: the caller gives the end of a stack.
        unsafe {
            let frame = end.sub(8);
            for register in 0..6 {
                frame.add(register).write(0);
            }
            frame.add(6).write(entry as usize);
            frame.add(7).write(0);
            frame.cast()
        }
    }

    #[unsafe(naked)]
    pub unsafe extern "C" fn switch(save: *mut *mut u8, resume: *mut u8) {
        std::arch::naked_asm!(
            "push rbp",
            "push rbx",
            "push r12",
            "push r13",
            "push r14",
            "push r15",
            "mov [rdi], rsp",
            "mov rsp, rsi",
            "pop r15",
            "pop r14",
            "pop r13",
            "pop r12",
            "pop rbx",
            "pop rbp",
            "ret",
        )
    }
}

#[cfg(all(unix, target_arch = "aarch64"))]
mod machine {
    pub const SUPPORTED: bool = true;

    /// Ten registers, the frame and link registers, and eight of the floating-point unit.
    pub unsafe fn first_frame(end: *mut u8, entry: extern "C" fn() -> !) -> *mut u8 {
        let end = (end as usize & !15) as *mut usize;
        // SAFETY: the caller gives the end of a stack.
        unsafe {
            let frame = end.sub(20);
            for register in 0..20 {
                frame.add(register).write(0);
            }
            frame.add(11).write(entry as usize);
            frame.cast()
        }
    }

    #[unsafe(naked)]
    pub unsafe extern "C" fn switch(save: *mut *mut u8, resume: *mut u8) {
        std::arch::naked_asm!(
            "sub sp, sp, #160",
            "stp x19, x20, [sp, #0]",
            "stp x21, x22, [sp, #16]",
            "stp x23, x24, [sp, #32]",
            "stp x25, x26, [sp, #48]",
            "stp x27, x28, [sp, #64]",
            "stp x29, x30, [sp, #80]",
            "stp d8, d9, [sp, #96]",
            "stp d10, d11, [sp, #112]",
            "stp d12, d13, [sp, #128]",
            "stp d14, d15, [sp, #144]",
            "mov x9, sp",
            "str x9, [x0]",
            "mov sp, x1",
            "ldp x19, x20, [sp, #0]",
            "ldp x21, x22, [sp, #16]",
            "ldp x23, x24, [sp, #32]",
            "ldp x25, x26, [sp, #48]",
            "ldp x27, x28, [sp, #64]",
            "ldp x29, x30, [sp, #80]",
            "ldp d8, d9, [sp, #96]",
            "ldp d10, d11, [sp, #112]",
            "ldp d12, d13, [sp, #128]",
            "ldp d14, d15, [sp, #144]",
            "add sp, sp, #160",
            "ret",
        )
    }
}

#[cfg(not(all(unix, any(target_arch = "x86_64", target_arch = "aarch64"))))]
mod machine {
    pub const SUPPORTED: bool = false;

    pub unsafe fn first_frame(end: *mut u8, _: extern "C" fn() -> !) -> *mut u8 {
        end
    }

    pub unsafe extern "C" fn switch(_: *mut *mut u8, _: *mut u8) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    extern "C" fn count_to_three(work: *mut ()) {
        for _ in 0..3 {
            // SAFETY: the test hands over a counter, and this runs on a fiber.
            unsafe {
                *work.cast::<u32>() += 1;
                give_way();
            }
        }
    }

    #[test]
    fn fibers_go_on_where_they_gave_way() {
        let mut counters = [0u32; 2];
        let mut fibers = [Fiber::new().unwrap(), Fiber::new().unwrap()];
        for fiber in &mut fibers {
            fiber.prepare();
        }
        for turn in 1..=3 {
            for (fiber, counter) in fibers.iter_mut().zip(&mut counters) {
                // SAFETY: the counter outlives the fiber's work.
                unsafe { fiber.run(count_to_three, (&raw mut *counter).cast()) };
                assert_eq!(*counter, turn);
            }
        }
        assert!(!fibers[0].overflowed());
    }
}
