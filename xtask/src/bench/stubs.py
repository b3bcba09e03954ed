"""Stands in for the GPU libraries of torch's Linux wheel, on a machine that computes on the processor.

    stubs.py FOLDER        where pip installed torch and nvidia-cuda-runtime, but not the 2 GB beside them

The wheel's libraries do not load without those that they link. For each of them, a stub of the same name exports
the symbols that torch wants, with their versions, and ends the program where one is called, which nothing does on
the processor. Needs cc, readelf and nm.
"""

import collections
import pathlib
import re
import subprocess
import sys

GPU = re.compile(r"lib(cu|nv|nccl)")
# Real: torch calls it as it starts.
REAL = {"libcudart.so.13", "libcuda.so.1"}
# Libraries whose symbols have no versions, and how their symbols start.
UNVERSIONED = {
    "libnccl": r"p?nccl",
    "libcufile": r"cuFile",
    "libcusparseLt": r"cusparseLt",
    "libnvshmem_host": r"_?nvshmem|_Z.*nvshmem",
    "libcusolver": r"cusolver",
    "libcupti": r"cupti",
    "libcudnn": r"cudnn",
}


def output(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def linked(libraries):
    """The GPU libraries that are linked."""
    names = set()
    for library in libraries:
        names.update(re.findall(r"NEEDED.*\[(.*?)\]", output("readelf", "-d", library)))
    return {name for name in names if GPU.match(name)} - REAL


def owners(libraries):
    """Which GPU library each version of symbols belongs to."""
    owner = {}
    for library in libraries:
        current = None
        for line in output("readelf", "-VW", library).splitlines():
            if found := re.search(r"File: (\S+)", line):
                current = found.group(1)
            found = re.search(r"Name: (\S+)", line)
            if found and current and GPU.match(current):
                owner[found.group(1)] = current
    return owner


def wanted(libraries, owner):
    """The symbols that each library has to export and their version, and symbols whose library nobody names."""
    symbols, versions, unversioned = collections.defaultdict(set), {}, set()
    for library in libraries:
        for line in output("nm", "-D", "--undefined-only", library).splitlines():
            name, _, version = line.split()[-1].partition("@")
            version = version.lstrip("@")
            if version in owner:
                symbols[owner[version]].add(name)
                versions[owner[version]] = version
            elif not version:
                unversioned.add(name)
    return symbols, versions, unversioned


def build(name, version, symbols, folder):
    base = folder / name.split(".so")[0]
    lines = ["#include <stdio.h>", "#include <stdlib.h>"]
    for symbol in sorted(symbols):
        lines.append(f'void {symbol}(void) {{ fprintf(stderr, "no GPU: {symbol}\\n"); abort(); }}')
    source = base.with_suffix(".c")
    source.write_text("\n".join(lines))
    compiler = ["cc", "-shared", "-fPIC", "-w", "-fno-builtin", "-O0", "-s", f"-Wl,-soname,{name}"]
    temporary = [source]
    if version:
        script = base.with_suffix(".map")
        script.write_text(f"{version} {{ global: *; }};\n")
        compiler.append(f"-Wl,--version-script={script}")
        temporary.append(script)
    output(*compiler, "-o", folder / name, source)
    for file in temporary:
        file.unlink()


def main(packages):
    libraries = sorted((packages / "torch/lib").glob("*.so*"))
    folder = packages / "nvidia/cu13/lib"
    symbols, versions, unversioned = wanted(libraries, owners(libraries))
    for name in sorted(linked(libraries)):
        prefix = UNVERSIONED.get(name.split(".so")[0])
        if prefix and name not in versions:
            symbols[name] |= {symbol for symbol in unversioned if re.match(prefix, symbol)}
        build(name, versions.get(name), symbols[name], folder)


main(pathlib.Path(sys.argv[1]))
