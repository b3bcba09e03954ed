//! Attention beside Burn's own on every device found, on the shapes of `attention bench --quick`.

#![allow(missing_docs, reason = "criterion_group! makes a public function")]

use attention_models::{
    cli::bench::{
        shape::{Scale, shapes},
        workload::{Contender, Workload},
    },
    device::DeviceKind,
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn attention(criterion: &mut Criterion) {
    for kind in DeviceKind::all_found() {
        let device = kind
            .open()
            .expect("invariant: a device that was found opens");
        for shape in shapes(Scale::of(kind), true)
            .into_iter()
            .filter(|shape| shape.runs_on(kind))
        {
            let mut group = criterion.benchmark_group(format!("{kind}/{shape}"));
            group
                .sample_size(10)
                .throughput(Throughput::Elements(shape.cost().flops));
            for (name, contender) in [("ours", Contender::Ours), ("burn", Contender::Burn)] {
                let workload = Workload::new(shape, contender, &device);
                group.bench_function(name, |bencher| {
                    bencher.iter(|| workload.run().expect("the device runs attention"))
                });
            }
            group.finish();
        }
    }
}

criterion_group!(benches, attention);
criterion_main!(benches);
