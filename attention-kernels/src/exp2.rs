//! The base-2 exponential that GPUs have an instruction for, and CubeCL 0.11.3 has no function for.
//!
//! An operation of CubeCL's intermediate representation, lowered by the compilers of the runtimes that
//! have matrix instructions of known layout. Elsewhere it is `exp(x ln 2)`.

use cubecl::prelude::*;

/// `2^x`, good to about two units in the last place; denormal results may be 0.
#[cube]
pub(crate) fn exp2(x: f32) -> f32 {
    intrinsic!(|scope| register(scope, x))
}

#[cfg(not(feature = "mma"))]
fn register(scope: &Scope, x: NativeExpand<f32>) -> NativeExpand<f32> {
    let exponent = x.__expand_mul_method(scope, std::f32::consts::LN_2.into());
    exponent.__expand_exp_method(scope)
}

#[cfg(feature = "mma")]
use operation::register;

#[cfg(feature = "mma")]
mod operation {
    extern crate alloc;

    use cubecl::{
        ir::{
            CanMaterialize, PropagatesUniformity, Pure, Scope, interfaces::TriviallyUnrollable,
            prelude::*,
        },
        prelude::{HasValue, NativeExpand},
    };
    use cubecl_cpp::shared::{CppValue, OpToCPP};
    use cubecl_llvm::{
        LlvmTarget,
        shared::{intrinsic::call_op, to_llvm::ToLLVMDialect},
        target::CtxTarget,
    };

    #[cube_op(name = "attention.exp2")]
    #[result_ty(same_as = input)]
    #[op_interfaces(SameOperandsType, SameOperandsAndResultType, TriviallyUnrollable)]
    #[op_traits(CanMaterialize, Pure, PropagatesUniformity)]
    struct Exp2Op {
        input: Value,
    }

    pub(super) fn register(scope: &Scope, x: NativeExpand<f32>) -> NativeExpand<f32> {
        let op = Exp2Op::new(scope.ctx_mut(), x.value(scope));
        scope.register_with_result(&op).into()
    }

    #[op_interface_impl]
    impl ToLLVMDialect for Exp2Op {
        fn rewrite(
            &self,
            ctx: &mut Context,
            rewriter: &mut DialectConversionRewriter,
            _: &OperandsInfo,
        ) -> Result<()> {
            let input = self.input(ctx);
            let name = match ctx.target() {
                LlvmTarget::Nvptx => "llvm.nvvm.ex2.approx.ftz.f32",
                LlvmTarget::AmdGpu => "llvm.amdgcn.exp2.f32",
                LlvmTarget::Cpu => "llvm.exp2.f32",
            };
            let ty = input.get_type(ctx);
            let call = call_op(ctx, name, ty, vec![input]);
            rewriter.insert_op(ctx, &call);
            let values = vec![call.get_result(ctx)];
            rewriter.replace_operation_with_values(ctx, self.get_operation(), values);
            Ok(())
        }
    }

    #[op_interface_impl]
    impl OpToCPP<cubecl_cpp::target::Shared> for Exp2Op {
        fn to_cpp(&self, ctx: &Context) -> String {
            let result = self.get_result(ctx).fmt_left(ctx);
            format!("{result} = exp2({});", self.input(ctx).name(ctx))
        }
    }
}
