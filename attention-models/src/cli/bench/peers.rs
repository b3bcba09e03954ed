//! torch and onnxruntime, which run in a Python beside this program and wait there for their turns.

use std::{
    cell::RefCell,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use attention_core::DType;
use serde_json::{Value, json};

use super::{
    measure::{Turn, rate},
    report::Who,
    shape::Scale,
};
use crate::device::DeviceKind;

/// What the Python is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// One attention.
    Attention,
    /// Whole models.
    Models,
}

impl Subject {
    fn script(self) -> String {
        let parts: &[&str] = match self {
            Self::Attention => &[include_str!("peers/attention.py")],
            Self::Models => &[
                include_str!("peers/guided_unet.py"),
                include_str!("peers/models.py"),
            ],
        };
        [&[include_str!("peers/protocol.py")], parts]
            .concat()
            .join("\n\n")
    }
}

/// Those in Python, by the names that the script has for them.
const IN_PYTHON: [Who; 2] = [Who::Torch, Who::OnnxRuntime];

/// A Python that runs the peers' attention on request.
pub struct Peers {
    connection: RefCell<Connection>,
    /// Those that this Python has, with their versions.
    pub versions: Vec<(Who, String)>,
}

struct Connection {
    python: Child,
    /// Closed to end the Python.
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Peers {
    /// Starts the Python; its peers use as many threads as there are cores.
    ///
    /// # Errors
    /// A program that is not a Python. One without torch or onnxruntime starts, and lacks them.
    pub fn start(python: &Path, subject: Subject) -> Result<Self> {
        let threads = thread::available_parallelism()?.get();
        let context = || format!("`{}` does not start as a Python", python.display());
        let mut child = Command::new(python)
            .args(["-c", &subject.script()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(context)?;
        let requests = child.stdin.take();
        let answers = child.stdout.take().with_context(context)?;
        let mut connection = Connection {
            python: child,
            requests,
            answers: BufReader::new(answers),
        };
        let hello = connection.ask(&json!({ "hello": { "threads": threads } }));
        let hello = hello.with_context(context)?;
        let version = |who: Who| Some((who, hello[who.name()].as_str()?.to_string()));
        Ok(Self {
            connection: RefCell::new(connection),
            versions: IN_PYTHON.into_iter().filter_map(version).collect(),
        })
    }

    /// Makes a peer's tensors of what is described; its answer says in `how` what will run.
    ///
    /// # Errors
    /// What the peer does not do, in its words.
    pub fn prepare(&self, who: Who, mut what: Value) -> Result<Value> {
        what["peer"] = who.name().into();
        self.ask(json!({ "prepare": what }))
    }

    /// The turns of a peer that is prepared for so many runs at a time.
    pub fn turns(&self, who: Who, runs: u32) -> Turn<'_> {
        Box::new(move |slot| {
            let run = json!({ "peer": who.name(), "seconds": slot.as_secs_f64() });
            let times = times(&self.ask(json!({ "run": run }))?)?;
            Ok(times.into_iter().map(|time| time / runs).collect())
        })
    }

    /// Operations a second of torch's matrix product on the processor.
    ///
    /// # Errors
    /// A Python without torch, or a torch without the type.
    pub fn product_rate(&self, dtype: DType) -> Result<f64> {
        let side = Scale::Cores.product_side();
        let request = json!({ "product": { "dtype": dtype, "side": side } });
        let times = times(&self.ask(request)?)?;
        Ok(rate(side, times.into_iter().min().unwrap_or_default()))
    }

    fn ask(&self, request: Value) -> Result<Value> {
        self.connection.borrow_mut().ask(&request)
    }
}

impl Connection {
    fn ask(&mut self, request: &Value) -> Result<Value> {
        let requests = self.requests.as_mut().context("the Python has ended")?;
        writeln!(requests, "{request}")?;
        requests.flush()?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let answer: Value = serde_json::from_str(&line).context("the Python has ended")?;
        if let Some(reason) = answer["refused"].as_str() {
            bail!("{reason}");
        }
        Ok(answer)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.requests = None;
        // It ends by itself; one that was killed has ended.
        let _status = self.python.wait();
    }
}

/// Where Python's peers run beside a device of ours: on the same one, or nowhere.
pub fn device_for(kind: DeviceKind) -> Option<&'static str> {
    match kind {
        DeviceKind::Cuda | DeviceKind::Rocm => Some("cuda"),
        _ if kind.is_software() => Some("cpu"),
        _ => None,
    }
}

fn times(answer: &Value) -> Result<Vec<Duration>> {
    let seconds = answer["seconds"].as_array().map(Vec::as_slice);
    let times: Vec<_> = seconds
        .unwrap_or_default()
        .iter()
        .filter_map(|time| Duration::try_from_secs_f64(time.as_f64()?).ok())
        .collect();
    if times.is_empty() {
        bail!("the Python measured nothing: {answer}");
    }
    Ok(times)
}
