"""Parts of a compiled loop on the threads of torch's own operations: its OpenMP runtime runs them.

Those threads turn in waiting for milliseconds after each of torch's operations, and would take half a core from any
others. They start a part within microseconds, without the interpreter, and in a forked child they are as safe as torch
itself is there.
"""

# mypy: disable-error-code="untyped-decorator,misc"
from __future__ import annotations

import ctypes
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

NAMES = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")
"""What is asked of the runtime. LLVM's own (libomp, libiomp5) answers to the GNU name as well."""
PREFIX = "affinet_"
"""Compiled code finds the runtime under names of our own, whatever others have loaded."""
WORTH = 2**16
"""Entries worth a thread: a part starts within some microseconds, in which one thread streams this many."""


def _loaded() -> Iterator[Path]:
    """Libraries that may be torch's OpenMP runtime: those it ships, then those that this process has loaded."""
    found = find_spec("torch")
    for home in found.submodule_search_locations or () if found is not None else ():
        for folder in (Path(home) / "lib", Path(home).with_name("torch.libs")):
            yield from sorted(path for name in ("libgomp", "libiomp5", "libomp") for path in folder.glob(f"{name}*"))
    maps = Path("/proc/self/maps")
    if maps.exists():
        paths = {line.split(maxsplit=5)[-1] for line in maps.read_text(encoding="utf-8").splitlines() if "/" in line}
        yield from sorted(Path(path) for path in paths if Path(path).name.startswith(("libgomp", "libiomp5", "libomp")))


def _joined() -> bool:
    """Make the runtime known to compiled code; False, and every loop runs on the thread that calls it, without one."""
    for path in _loaded():
        try:
            runtime = ctypes.CDLL(str(path))
            places = [ctypes.cast(getattr(runtime, name), ctypes.c_void_p).value for name in NAMES]
        except (OSError, AttributeError):
            continue
        for name, place in zip(NAMES, places, strict=True):
            llvmlite.binding.add_symbol(PREFIX + name, place)
        return True
    nothing = ctypes.cast(ctypes.pythonapi.Py_IsInitialized, ctypes.c_void_p).value
    for name in NAMES:  # compiled code must link, and never calls it
        llvmlite.binding.add_symbol(PREFIX + name, nothing)
    return False


JOINED = _joined()


def team(entries: int, threads: int) -> int:
    """How many threads to share so many entries out to."""
    return max(1, min(threads, entries // WORTH)) if JOINED else 1


@intrinsic(prefer_literal=False)
def share_out(typing: Any, loop: Any, given: Any, count: Any, threads: Any) -> Any:
    """Call `loop(*given, first, last)` on parts of `range(count)`, one for each of `threads` threads.

    `loop` is a compiled function that allocates nothing and raises nothing; `given` is a tuple.
    """
    wanted = (*given.types, types.intp, types.intp)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        loop.dispatcher.compile(wanted)
        body = _part(context, builder.module, loop.dispatcher.overloads[wanted], values[1].type)
        word, byte, number = context.get_value_type(types.intp), _pointer(), ir.IntType(32)
        job = cgutils.alloca_once(builder, ir.LiteralStructType([values[1].type, word]))
        builder.store(values[1], cgutils.gep_inbounds(builder, job, 0, 0))
        builder.store(values[2], cgutils.gep_inbounds(builder, job, 0, 1))
        start = _external(builder.module, "GOMP_parallel", ir.VoidType(), [body.type, byte, number, number])
        asked = builder.trunc(values[3], number)
        builder.call(start, [body, builder.bitcast(job, byte), asked, ir.Constant(number, 0)])
        return context.get_dummy_value()

    return types.void(loop, given, types.intp, types.intp), generate


def _part(context: Any, module: Any, compiled: Any, given: Any) -> Any:
    """The function that every thread runs: which part is its own, and the loop over that."""
    context.add_linking_libs((compiled.library,))
    word, byte, number = context.get_value_type(types.intp), _pointer(), ir.IntType(32)
    body = ir.Function(module, ir.FunctionType(ir.VoidType(), [byte]), module.get_unique_name("part"))
    body.linkage = "internal"
    builder = ir.IRBuilder(body.append_basic_block("entry"))
    job = builder.bitcast(body.args[0], ir.LiteralStructType([given, word]).as_pointer())
    values = builder.load(cgutils.gep_inbounds(builder, job, 0, 0))
    count = builder.load(cgutils.gep_inbounds(builder, job, 0, 1))
    mine, all_ = (
        builder.sext(builder.call(_external(module, name, number, []), []), word)
        for name in ("omp_get_thread_num", "omp_get_num_threads")
    )
    first = builder.sdiv(builder.mul(count, mine), all_)
    last = builder.sdiv(builder.mul(count, builder.add(mine, ir.Constant(word, 1))), all_)
    each = [builder.extract_value(values, place) for place in range(len(given.elements))]
    context.call_internal_no_propagate(builder, compiled.fndesc, compiled.signature, [*each, first, last])
    builder.ret_void()
    return body


def _external(module: Any, name: str, returns: Any, arguments: list[Any]) -> Any:
    return cgutils.get_or_insert_function(module, ir.FunctionType(returns, arguments), PREFIX + name)


def _pointer() -> Any:
    return ir.IntType(8).as_pointer()
