//! Copies from a buffer to shared memory that pass no register (`cp.async` of NVIDIA's cards since Ampere), for
//! which CubeCL 0.11.3 has an operation that its default compiler does not lower.
//!
//! Operations of CubeCL's intermediate representation, lowered by the compilers of the runtimes that have matrix
//! instructions of known layout. Where the copy is not asynchronous, it is done when it is asked for.

use cubecl::prelude::*;

/// How far ahead of an address a copy reads, and of another writes: parts of the instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Ahead {
    pub source: usize,
    pub destination: usize,
}

/// Begins to copy `source[at]` to `destination[to]`, both so much further: 4, 8 or 16 bytes. They lie there after
/// [`copies_arrive`].
#[cube]
pub(crate) fn copy_async<E: CubePrimitive>(
    source: &[E],
    at: usize,
    destination: &mut [E],
    to: usize,
    #[comptime] ahead: Ahead,
) {
    begin::<E>(&source[at..at + 1], &mut destination[to..to + 1], ahead);
}

/// Waits for the copies of this unit. Those of the others need the cube's barrier besides.
#[cube]
pub(crate) fn copies_arrive() {
    wait();
}

#[cfg(not(feature = "mma"))]
#[cube]
fn begin<E: CubePrimitive>(source: &[E], destination: &mut [E], #[comptime] ahead: Ahead) {
    destination[ahead.destination] = source[ahead.source];
}

#[cfg(not(feature = "mma"))]
#[cube]
fn wait() {}

#[cfg(feature = "mma")]
#[cube]
fn begin<E: CubePrimitive>(source: &[E], destination: &mut [E], #[comptime] ahead: Ahead) {
    intrinsic!(|scope| {
        operation::begin(scope, source, destination, E::__expand_size(scope), ahead)
    });
}

#[cfg(feature = "mma")]
#[cube]
fn wait() {
    intrinsic!(|scope| operation::wait(scope));
}

#[cfg(feature = "mma")]
mod operation {
    extern crate alloc;

    use cubecl::{
        ir::{
            CanMaterialize, HasSideEffects, Scope,
            attributes::IndexAttr,
            interfaces::side_effects::{MemoryEffect, MemoryEffectsOp},
            prelude::*,
        },
        prelude::{CubePrimitive, HasValue, SliceExpand},
    };
    use cubecl_cpp::shared::{CppValue, OpToCPP};
    use cubecl_llvm::{LlvmTarget, shared::to_llvm::ToLLVMDialect, target::CtxTarget};
    use pliron::{
        arg_err_noloc,
        builtin::types::{IntegerType, Signedness},
        r#type::TypeHandle,
    };
    use pliron_llvm::{
        attributes::GepNoWrapFlags,
        op_interfaces::CastOpInterface,
        ops::{AddrSpaceCastOp, CallIntrinsicOp, GepIndex, GetElementPtrOp},
        types::{FuncType, PointerType, VoidType},
    };

    const SHARED: u32 = 3;
    const GLOBAL: u32 = 1;

    #[cube_op(name = "attention.copy_async")]
    #[result_ty(none)]
    #[op_traits(CanMaterialize, HasSideEffects)]
    struct CopyAsyncOp {
        source: Value,
        destination: Value,
        bytes: IndexAttr,
        read_ahead: IndexAttr,
        write_ahead: IndexAttr,
    }

    #[op_interface_impl]
    impl MemoryEffectsOp for CopyAsyncOp {
        fn memory_effects(&self, ctx: &Context) -> Vec<MemoryEffect> {
            let (source, destination) = (self.source(ctx), self.destination(ctx));
            vec![MemoryEffect::Read(source), MemoryEffect::Write(destination)]
        }
    }

    #[cube_op(name = "attention.copies_arrive")]
    #[result_ty(none)]
    #[op_traits(CanMaterialize, HasSideEffects)]
    struct CopiesArriveOp {}

    pub(super) fn begin<E: CubePrimitive>(
        scope: &Scope,
        source: &SliceExpand<E>,
        destination: &mut SliceExpand<E>,
        bytes: usize,
        ahead: super::Ahead,
    ) {
        // SAFETY: the pointers are values of the expanded kernel; nothing is read here.
        let (source, destination) = unsafe {
            (
                (*source.__expand_as_ptr_method(scope)).value(scope),
                (*destination.__expand_as_mut_ptr_method(scope)).value(scope),
            )
        };
        scope.register(&CopyAsyncOp::new(
            scope.ctx_mut(),
            source,
            destination,
            bytes,
            ahead.source,
            ahead.destination,
        ));
    }

    pub(super) fn wait(scope: &Scope) {
        scope.register(&CopiesArriveOp::new(scope.ctx_mut()));
    }

    /// No other card has a plan for [`Spread::Quads`](crate::tile::Spread), which alone copies.
    fn only_nvidia(ctx: &Context) -> Result<()> {
        match ctx.target() {
            LlvmTarget::Nvptx => Ok(()),
            other => arg_err_noloc!("{other:?} has no asynchronous copy"),
        }
    }

    fn call(
        ctx: &mut Context,
        rewriter: &mut DialectConversionRewriter,
        name: &str,
        arguments: Vec<Value>,
    ) {
        let types = arguments.iter().map(|one| one.get_type(ctx)).collect();
        let nothing = VoidType::get(ctx).into();
        let function = FuncType::get(ctx, nothing, types, false);
        let call = CallIntrinsicOp::new(ctx, name.into(), function, arguments);
        rewriter.insert_op(ctx, &call);
    }

    fn in_space(
        ctx: &mut Context,
        rewriter: &mut DialectConversionRewriter,
        pointer: Value,
        space: u32,
    ) -> Value {
        let wanted: TypeHandle = PointerType::get(ctx, space).into();
        if pointer.get_type(ctx) == wanted {
            return pointer;
        }
        let cast = AddrSpaceCastOp::new(ctx, pointer, wanted);
        rewriter.insert_op(ctx, &cast);
        cast.get_result(ctx)
    }

    fn behind(
        ctx: &mut Context,
        rewriter: &mut DialectConversionRewriter,
        pointer: Value,
        bytes: usize,
    ) -> Value {
        let byte = IntegerType::get(ctx, 8, Signedness::Signless).into();
        let index = vec![GepIndex::Constant(bytes as u32)];
        let flags = GepNoWrapFlags::INBOUNDS | GepNoWrapFlags::NUW;
        let moved = GetElementPtrOp::new_with_no_wrap_flags(ctx, pointer, index, byte, flags);
        rewriter.insert_op(ctx, &moved);
        moved.get_result(ctx)
    }

    #[op_interface_impl]
    impl ToLLVMDialect for CopyAsyncOp {
        fn rewrite(
            &self,
            ctx: &mut Context,
            rewriter: &mut DialectConversionRewriter,
            _: &OperandsInfo,
        ) -> Result<()> {
            only_nvidia(ctx)?;
            let destination = in_space(ctx, rewriter, self.destination(ctx), SHARED);
            let source = in_space(ctx, rewriter, self.source(ctx), GLOBAL);
            let bytes = self.bytes(ctx).0;
            let (read, write) = (self.read_ahead(ctx).0, self.write_ahead(ctx).0);
            let source = behind(ctx, rewriter, source, read * bytes);
            let destination = behind(ctx, rewriter, destination, write * bytes);
            // Those of 16 bytes pass the first cache by.
            let cache = if bytes == 16 { "cg" } else { "ca" };
            let name = format!("llvm.nvvm.cp.async.{cache}.shared.global.{bytes}");
            call(ctx, rewriter, &name, vec![destination, source]);
            rewriter.erase_operation(ctx, self.get_operation());
            Ok(())
        }
    }

    #[op_interface_impl]
    impl ToLLVMDialect for CopiesArriveOp {
        fn rewrite(
            &self,
            ctx: &mut Context,
            rewriter: &mut DialectConversionRewriter,
            _: &OperandsInfo,
        ) -> Result<()> {
            only_nvidia(ctx)?;
            call(ctx, rewriter, "llvm.nvvm.cp.async.wait.all", Vec::new());
            rewriter.erase_operation(ctx, self.get_operation());
            Ok(())
        }
    }

    #[op_interface_impl]
    impl OpToCPP<cubecl_cpp::target::Shared> for CopyAsyncOp {
        fn to_cpp(&self, ctx: &Context) -> String {
            let source = self.source(ctx).name(ctx);
            let destination = self.destination(ctx).name(ctx);
            let (read, write) = (self.read_ahead(ctx).0, self.write_ahead(ctx).0);
            format!("{destination}[{write}] = {source}[{read}];")
        }
    }

    #[op_interface_impl]
    impl OpToCPP<cubecl_cpp::target::Shared> for CopiesArriveOp {
        fn to_cpp(&self, _: &Context) -> String {
            String::new()
        }
    }
}
