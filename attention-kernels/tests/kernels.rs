use attention_core::{oracle, AttentionSpec, CausalAlignment};
use attention_kernels::{TensorRef, softmax};
use cubecl::{client::Client, ir::{ElemType, FloatKind, UIntKind}, prelude::*, future};

fn rnd(n: usize, seed: u32) -> Vec<f32> { let mut x = seed.wrapping_mul(2654435761).max(1); (0..n).map(|_| { x ^= x << 13; x ^= x >> 17; x ^= x << 5; (x as f32 / u32::MAX as f32) * 2.0 - 1.0 }).collect() }
const F: ElemType = ElemType::Float(FloatKind::F32);
struct Case { b: usize, h: usize, hk: usize, sq: usize, sk: usize, d: usize, dv: usize, mask: Option<[usize;4]>, bias: Option<[usize;4]>, spec: AttentionSpec }

fn up(c: &Client, x: &[f32], shape: [usize;4]) -> TensorRef { TensorRef::contiguous(c.create_from_slice(f32::as_bytes(if x.is_empty() {&[0.0]} else {x})), shape, F) }
fn t4(x: &[f32], shape: [usize;4]) -> oracle::Tensor4 { oracle::Tensor4::new(shape, x.iter().map(|&v| v as f64).collect()) }
fn worst(a: &[f32], b: &[f64]) -> f64 { assert!(a.len() >= b.len()); a.iter().zip(b).map(|(x, y)| if x.is_nan() { f64::INFINITY } else { (*x as f64 - y).abs() }).fold(0.0, f64::max) }

fn run(c: &Client, k: &Case, name: &str) {
    let n = |s: [usize;4]| s.iter().product::<usize>();
    let (qs, ks, vs, os) = ([k.b,k.h,k.sq,k.d],[k.b,k.hk,k.sk,k.d],[k.b,k.hk,k.sk,k.dv],[k.b,k.h,k.sq,k.dv]);
    let (q, kk, v, go, gl) = (rnd(n(qs),1), rnd(n(ks),2), rnd(n(vs),3), rnd(n(os),4), rnd(k.b*k.h*k.sq,5));
    let mask: Option<(Vec<u32>, [usize;4])> = k.mask.map(|s| (rnd(n(s), 6).iter().map(|&x| (x > 0.2) as u32).collect(), s));
    let bias = k.bias.map(|s| (rnd(n(s), 7), s));
    let t = std::time::Instant::now();
    let inputs = softmax::Inputs { query: up(c,&q,qs), key: up(c,&kk,ks), value: up(c,&v,vs),
        mask: mask.as_ref().map(|(m,s)| TensorRef::contiguous(c.create_from_slice(u32::as_bytes(m)), *s, ElemType::UInt(UIntKind::U32))),
        bias: bias.as_ref().map(|(b,s)| up(c,b,*s)) };
    let oi = oracle::Inputs { query: t4(&q,qs), key: t4(&kk,ks), value: t4(&v,vs), mask: mask.as_ref().map(|(m,s)| oracle::Mask4 { shape: *s, data: m.iter().map(|&x| x != 0).collect() }), bias: bias.as_ref().map(|(b,s)| t4(b,*s)) };
    let out = softmax::forward(c, &inputs, &k.spec).unwrap();
    let o = c.read_one(out.out.clone()).unwrap(); let o = f32::from_bytes(&o).to_vec();
    let l = c.read_one(out.lse.clone()).unwrap(); let l = f32::from_bytes(&l).to_vec();
    let tf = t.elapsed().as_secs_f64();
    let want = oracle::forward(&oi, &k.spec).unwrap();
    let eo = worst(&o, &want.out.data);
    let el = l.iter().zip(&want.lse).map(|(a,b)| if *b == f64::NEG_INFINITY { if *a == f32::NEG_INFINITY {0.0} else {f64::INFINITY} } else { (*a as f64-b).abs() }).fold(0.0, f64::max);
    let t = std::time::Instant::now();
    let g = softmax::backward(c, &softmax::BackwardInputs { forward: inputs, out: TensorRef::contiguous(out.out, os, F), lse: TensorRef::contiguous(out.lse, [k.b,k.h,k.sq,1], F), grad_out: up(c,&go,os), grad_lse: Some(up(c,&gl,[k.b,k.h,k.sq,1])) }, &k.spec, true).unwrap();
    let glo: Vec<f64> = gl.iter().map(|&x| x as f64).collect();
    let wg = oracle::backward(&oi, &k.spec, &t4(&go, os), Some(&glo)).unwrap();
    let get = |h: cubecl::server::Handle| { let b = c.read_one(h).unwrap(); f32::from_bytes(&b).to_vec() };
    let (eq, ek, ev) = (worst(&get(g.query), &wg.query.data), worst(&get(g.key), &wg.key.data), worst(&get(g.value), &wg.value.data));
    let eb = g.bias.map(|b| worst(&get(b), &wg.bias.as_ref().unwrap().data)).unwrap_or(0.0);
    let tb = t.elapsed().as_secs_f64();
    let bad = [eo,el,eq,ek,ev,eb].iter().any(|e| !(*e < 2e-5));
    println!("{} {name}: b{} h{}/{} q{} k{} d{} dv{} mask {:?} bias {:?} {:?}: o {eo:.1e} lse {el:.1e} dq {eq:.1e} dk {ek:.1e} dv {ev:.1e} db {eb:.1e}  fwd {tf:.2}s bwd {tb:.2}s", if bad {"BAD"} else {"ok "}, k.b,k.h,k.hk,k.sq,k.sk,k.d,k.dv,k.mask,k.bias,k.spec);
}
#[test]
fn try_all() {
    let which = std::env::var("W").unwrap_or("cpu".into());
    let c: Client = match which.as_str() { "cpu" => cubecl::Device::cpu().unwrap().client(), _ => cubecl::Device::vulkan(cubecl::device::WgpuDeviceKind::Cpu).unwrap().client() };
    let s = AttentionSpec::default();
    let ca = s.with_causal(CausalAlignment::BottomRight);
    let cases = vec![
        Case { b:1,h:1,hk:1,sq:32,sk:64,d:64,dv:64,mask:None,bias:None,spec:s },
        Case { b:2,h:4,hk:2,sq:37,sk:71,d:40,dv:24,mask:None,bias:None,spec:s },
        Case { b:2,h:4,hk:2,sq:130,sk:97,d:64,dv:64,mask:None,bias:None,spec:ca },
        Case { b:1,h:2,hk:1,sq:97,sk:130,d:59,dv:111,mask:None,bias:None,spec:ca.with_softcap(5.0) },
        Case { b:2,h:2,hk:2,sq:33,sk:70,d:32,dv:32,mask:Some([2,1,1,70]),bias:None,spec:s },
        Case { b:2,h:2,hk:2,sq:33,sk:70,d:32,dv:32,mask:Some([2,2,33,70]),bias:Some([1,2,33,70]),spec:s.with_scale(0.3) },
        Case { b:2,h:2,hk:2,sq:133,sk:70,d:32,dv:32,mask:None,bias:Some([2,1,1,70]),spec:s.with_softcap(2.0) },
        Case { b:2,h:2,hk:2,sq:133,sk:70,d:32,dv:32,mask:None,bias:Some([1,2,133,1]),spec:s },
        Case { b:2,h:2,hk:2,sq:133,sk:70,d:32,dv:32,mask:Some([1,1,133,70]),bias:Some([1,1,1,1]),spec:s },
        Case { b:1,h:1,hk:1,sq:3,sk:5,d:256,dv:256,mask:None,bias:None,spec:s },
        Case { b:1,h:1,hk:1,sq:300,sk:300,d:128,dv:128,mask:None,bias:None,spec:s },
        Case { b:1,h:1,hk:1,sq:1,sk:1,d:1,dv:1,mask:None,bias:None,spec:s },
        Case { b:1,h:2,hk:1,sq:5,sk:0,d:8,dv:8,mask:None,bias:None,spec:s },
        Case { b:1,h:2,hk:1,sq:0,sk:5,d:8,dv:8,mask:None,bias:None,spec:s },
    ];
    let only = std::env::var("I").ok().map(|x| x.parse::<usize>().unwrap());
    for (i, k) in cases.iter().enumerate() { if only.is_none_or(|o| o == i) { run(&c, k, &which); } }
    let _ = future::block_on(c.sync());
}
