//! CubeCL's CUDA C++ and HIP C++ as the host's C++: includes, shared memory, inline assembly and the
//! compiler's own functions differ.

use std::fmt::Write as _;

use super::{
    fault::Fault,
    request::{Half, Meeting},
};

/// Text for the host's compiler, after `shim.h`, line for line what CubeCL wrote.
pub(super) struct Source {
    pub text: String,
    /// The kernel's function.
    pub kernel: String,
}

impl Source {
    /// # Errors
    /// Text that is not laid out as cubecl-cpp 0.11 lays it out, or assembly of unknown meaning.
    pub fn new(cuda: &str) -> Result<Self, Fault> {
        let mut text = String::new();
        let mut lines = cuda.lines();
        while let Some(line) = lines.next() {
            let vector = line.starts_with("typedef ") && line.contains("ext_vector_type");
            if vector || line.trim_start().starts_with("#include") {
                text.push('\n');
            } else if let Some(name) = wmma(line) {
                // The body, and what closes it.
                lines.next();
                lines.next();
                let meets = "emulated::multiply(__LINE__, __VA_ARGS__)";
                let _ = writeln!(text, "#define {name}(...) {meets}\n\n");
            } else if let Some((name, rest)) = shared_memory(line) {
                let memory = "emulated::host->thread()->shared";
                let _ = writeln!(text, "char* const {name} = {memory};{rest}");
            } else {
                text.push_str(line);
                text.push('\n');
            }
        }
        let kernel = kernel(&text).ok_or(Fault::Text("the kernel's name"))?;
        Ok(Self {
            text: without_assembly(&text)?,
            kernel,
        })
    }
}

/// The name in `__device__ void wmma_execute_...(`: of a matrix instruction.
fn wmma(line: &str) -> Option<&str> {
    let name = line.strip_prefix("__device__ void ")?;
    let (name, _) = name.split_once('(')?;
    name.starts_with("wmma_execute_").then_some(name)
}

/// The name in `extern __shared__ __align__(16) char name[];`, and what follows.
fn shared_memory(line: &str) -> Option<(&str, &str)> {
    let declaration = line.trim_start().strip_prefix("extern __shared__")?;
    let (declaration, rest) = declaration.split_once("[];")?;
    Some((declaration.rsplit_once(' ')?.1, rest))
}

/// The name in `extern "C" __global__ void __launch_bounds__(128) name(`
fn kernel(text: &str) -> Option<String> {
    let (_, declaration) = text.split_once("__global__ ")?;
    let (_, after) = declaration.split_once("__launch_bounds__(")?;
    let (_, after) = after.split_once(')')?;
    let (name, _) = after.split_once('(')?;
    Some(name.split_whitespace().next_back()?.into())
}

/// Every `asm` statement becomes a request.
fn without_assembly(text: &str) -> Result<String, Fault> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = statement(rest) {
        let (before, after) = rest.split_at(at);
        let open = after
            .find('(')
            .ok_or(Fault::Text("an assembly statement"))?;
        let length = group(&after[open..]).ok_or(Fault::Text("an assembly statement"))?;
        let (inside, tail) = after[open + 1..].split_at(length - 2);
        out.push_str(before);
        out.push_str(&request(inside)?);
        // The statements keep their lines.
        out.extend(inside.chars().filter(|&character| character == '\n'));
        rest = &tail[1..];
    }
    out.push_str(rest);
    Ok(out)
}

/// Where the next `asm` stands by itself.
fn statement(text: &str) -> Option<usize> {
    let is_part = |character: char| character.is_alphanumeric() || character == '_';
    text.match_indices("asm")
        .map(|(at, _)| at)
        .find(|&at| !text[..at].ends_with(is_part) && !text[at + 3..].starts_with(is_part))
}

/// The length of the parenthesised group that `text` begins with.
fn group(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    let mut quoted = false;
    let mut escaped = false;
    for (at, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// `"instruction %0, %1;" : "=r"(out) : "r"(in) : clobbers` as a request.
fn request(assembly: &str) -> Result<String, Fault> {
    let broken = || Fault::Text("an assembly statement's operands");
    let mut operands = Vec::new();
    let template = &assembly[..quote(assembly).ok_or_else(broken)?];
    let mut rest = &assembly[template.len()..];
    // `"=r"(expression)`
    while let Some(open) = rest.find('"') {
        let constraint = quote(&rest[open..]).ok_or_else(broken)?;
        let after = rest[open + constraint..].trim_start();
        if !after.starts_with('(') {
            break;
        }
        let length = group(after).ok_or_else(broken)?;
        operands.push(&after[1..length - 1]);
        rest = &after[length..];
    }
    let template = template.trim().trim_matches('"');
    let (instruction, registers) = template.split_once(' ').ok_or_else(broken)?;
    let order: Option<Vec<&str>> = numbers(registers)
        .map(|number| operands.get(number).copied())
        .collect();
    let values = order.ok_or_else(broken)?;
    let unknown = || Fault::Instruction(template.into());
    let (meeting, argument, outputs) = meaning(instruction).ok_or_else(unknown)?;
    if values.len() < outputs {
        return Err(broken());
    }
    let (outputs, inputs) = values.split_at(outputs);
    let kind = meeting.number();
    let mut text = format!("{{ emulated::Request request({kind}, __LINE__, {argument}); ");
    for (word, input) in inputs.iter().enumerate() {
        let _ = write!(text, "request.put({word}, {input}); ");
    }
    text.push_str("request.meet(); ");
    for (word, output) in outputs.iter().enumerate() {
        let _ = write!(text, "request.get({word}, {output}); ");
    }
    text.push('}');
    Ok(text)
}

/// What an instruction means, its argument, and how many registers it gives.
fn meaning(instruction: &str) -> Option<(Meeting, usize, usize)> {
    const MULTIPLY: &str = "mma.sync.aligned.m16n8k16.row.col.f32.";
    const LOAD: &str = "ldmatrix.sync.aligned.m8n8.x";
    if let Some(types) = instruction.strip_prefix(MULTIPLY) {
        let half = match types {
            "f16.f16.f32" => Half::F16,
            "bf16.bf16.f32" => Half::BF16,
            _ => return None,
        };
        return Some((Meeting::Multiply(half), 0, 4));
    }
    let (count, rest) = instruction.strip_prefix(LOAD)?.split_once('.')?;
    let transposed = rest.starts_with("trans.");
    if !["shared::cta.b16", "trans.shared::cta.b16"].contains(&rest) {
        return None;
    }
    let count = count.parse().ok()?;
    Some((Meeting::LoadMatrices { transposed }, count, count))
}

/// The length of the string literal that `text` begins with, blanks before it included.
fn quote(text: &str) -> Option<usize> {
    let open = text.find('"')?;
    let close = text[open + 1..].find('"')?;
    Some(open + close + 2)
}

/// The numbers of `%0, {%1, %2}`.
fn numbers(registers: &str) -> impl Iterator<Item = usize> {
    registers.split('%').skip(1).filter_map(|register| {
        let end = register.find(|character: char| !character.is_ascii_digit());
        register[..end.unwrap_or(register.len())].parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assembly_becomes_a_request_whose_registers_are_in_the_instructions_order() {
        let cuda = "extern \"C\" __global__ void __launch_bounds__(32) kernel(float* a) {\n\
            extern __shared__ __align__(16) char memory[];int a;\n\
            asm volatile(\"ldmatrix.sync.aligned.m8n8.x2.trans.shared::cta.b16 {%0, %1}, [%2];\" : \
            \"=r\"(result.i_0), \"=r\"(result.i_1) : \"r\"(f(x)) : \"memory\");\n}\n";
        let source = Source::new(cuda).unwrap();
        assert_eq!(source.kernel, "kernel");
        let lines: Vec<_> = source.text.lines().collect();
        assert_eq!(
            lines[1],
            "char* const memory = emulated::host->thread()->shared;int a;"
        );
        assert_eq!(
            lines[2],
            "{ emulated::Request request(12, __LINE__, 2); request.put(0, f(x)); request.meet(); \
             request.get(0, result.i_0); request.get(1, result.i_1); };"
        );
    }

    #[test]
    fn an_instruction_without_meaning_is_refused_by_name() {
        let error = request("\"elect.sync %0;\" : \"=r\"(result) :").unwrap_err();
        assert_eq!(error, Fault::Instruction("elect.sync %0;".into()));
    }
}
