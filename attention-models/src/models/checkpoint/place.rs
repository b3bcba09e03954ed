//! Which tensor of a file each tensor of a module is.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{DType, Shape, Tensor};
use burn_store::{BurnToPyTorchAdapter, ModuleAdapter, ModuleContext, bridge, burn_pack};

use super::TensorProblem;
use super::names::{HeadLayout, Location, NameTable};
use super::view::View;

/// A tensor of a module and where it lies in a file.
pub(super) struct Place {
    pub(super) wanted: Wanted,
    pub(super) location: Location,
    /// How many experts the file's tensor holds.
    experts: usize,
}

impl Place {
    /// The places of all tensors of a module in a file that uses `prefix` and has the tensors
    /// that `contains` knows.
    pub(super) fn of_all(
        module: &impl Module,
        table: &NameTable,
        prefix: &str,
        contains: impl Fn(&str) -> bool,
    ) -> Vec<Self> {
        let located: Vec<_> = wanted_tensors(module)
            .into_iter()
            .map(|wanted| {
                let location = table.locate(&wanted.name, prefix, &contains);
                (wanted, location)
            })
            .collect();
        let mut experts = BTreeMap::<String, usize>::new();
        for (_, location) in &located {
            if let Some(expert) = location.expert {
                let count = experts.entry(location.name.clone()).or_default();
                *count = (*count).max(expert + 1);
            }
        }
        located
            .into_iter()
            .map(|(wanted, location)| Self {
                experts: experts.get(&location.name).copied().unwrap_or(1),
                wanted,
                location,
            })
            .collect()
    }

    /// Which part of the file's tensor it is.
    pub(super) fn view(&self, heads: Option<HeadLayout>) -> Result<View, TensorProblem> {
        View::new(&self.location, &self.wanted.shape, heads, self.experts).map_err(|reason| {
            TensorProblem::Data {
                name: self.location.name.clone(),
                reason,
            }
        })
    }
}

/// A tensor that a module needs, by PyTorch's name and shape.
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) shape: Shape,
}

/// What the module's parameters would be called and shaped in PyTorch. Nothing is initialised.
fn wanted_tensors(module: &impl Module) -> Vec<Wanted> {
    #[derive(Default)]
    struct Walk {
        path: Vec<String>,
        containers: Vec<String>,
        wanted: Vec<Wanted>,
    }

    impl ModuleVisitor for Walk {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let shape = param.lazy_shape();
            let burn = bridge::deferred(self.path.join("."), DType::F32, shape, None, || {
                Err(burn_pack::Error::ValidationError("described only".into()))
            });
            let torch = BurnToPyTorchAdapter.adapt(burn, ModuleContext::new(&self.containers));
            self.wanted.push(Wanted {
                name: torch.name.clone(),
                shape: torch.shape.clone(),
            });
        }

        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.push(name.to_string());
            self.containers.push(container.to_string());
        }

        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.path.pop();
            self.containers.pop();
        }
    }

    let mut walk = Walk::default();
    module.visit(&mut walk);
    walk.wanted
}
