"""Runs parts of a compiled loop on the threads of torch's OpenMP runtime.

Those threads spin for milliseconds after each of torch's operations, and would take half a core from any other threads.
They start a part within microseconds, without the interpreter, and in a forked child they are as safe as torch itself.
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
"""The functions of the runtime in use. LLVM's runtimes (libomp, libiomp5) also export the GNU name."""
PREFIX = "affinet_"
"""Prefix of the names under which compiled code finds the runtime, to avoid symbols of other libraries."""
WORTH = 2**16
"""Entries per thread: starting a part takes a few microseconds, in which one thread streams this many entries."""


def _loaded() -> Iterator[Path]:
    """Libraries that may be torch's OpenMP runtime: those it ships, then those that this process has loaded."""
    specification = find_spec("torch")
    for home in specification.submodule_search_locations or () if specification is not None else ():
        for folder in (Path(home) / "lib", Path(home).with_name("torch.libs")):
            yield from sorted(path for name in ("libgomp", "libiomp5", "libomp") for path in folder.glob(f"{name}*"))
    maps = Path("/proc/self/maps")
    if maps.exists():
        paths = {line.split(maxsplit=5)[-1] for line in maps.read_text(encoding="utf-8").splitlines() if "/" in line}
        yield from sorted(Path(path) for path in paths if Path(path).name.startswith(("libgomp", "libiomp5", "libomp")))


def _joined() -> bool:
    """Register the runtime with compiled code; False without a runtime: loops then run on the calling thread."""
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
    for name in NAMES:  # compiled code must link, but never calls it
        llvmlite.binding.add_symbol(PREFIX + name, nothing)
    return False


JOINED = _joined()


def team(entries: int, threads: int) -> int:
    """The number of threads to use for a number of entries."""
    return max(1, min(threads, entries // WORTH)) if JOINED else 1


@intrinsic(prefer_literal=False)
def share_out(typing: Any, loop: Any, arguments: Any, count: Any, threads: Any) -> Any:
    """Call `loop(*arguments, first, last)` on parts of `range(count)`, one per thread.

    `loop` is a compiled function that allocates nothing and raises nothing; `arguments` is a tuple.
    """
    argument_types = (*arguments.types, types.intp, types.intp)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        loop.dispatcher.compile(argument_types)
        body = _part(context, builder.module, loop.dispatcher.overloads[argument_types], values[1].type)
        word, byte, number = context.get_value_type(types.intp), _pointer(), ir.IntType(32)
        job = cgutils.alloca_once(builder, ir.LiteralStructType([values[1].type, word]))
        builder.store(values[1], cgutils.gep_inbounds(builder, job, 0, 0))
        builder.store(values[2], cgutils.gep_inbounds(builder, job, 0, 1))
        start = _external(builder.module, "GOMP_parallel", ir.VoidType(), [body.type, byte, number, number])
        thread_count = builder.trunc(values[3], number)
        builder.call(start, [body, builder.bitcast(job, byte), thread_count, ir.Constant(number, 0)])
        return context.get_dummy_value()

    return types.void(loop, arguments, types.intp, types.intp), generate


def _part(context: Any, module: Any, compiled: Any, argument_types: Any) -> Any:
    """The function that every thread runs: it finds the part of the thread and runs the loop over it."""
    context.add_linking_libs((compiled.library,))
    word, byte, number = context.get_value_type(types.intp), _pointer(), ir.IntType(32)
    body = ir.Function(module, ir.FunctionType(ir.VoidType(), [byte]), module.get_unique_name("part"))
    body.linkage = "internal"
    builder = ir.IRBuilder(body.append_basic_block("entry"))
    job = builder.bitcast(body.args[0], ir.LiteralStructType([argument_types, word]).as_pointer())
    values = builder.load(cgutils.gep_inbounds(builder, job, 0, 0))
    count = builder.load(cgutils.gep_inbounds(builder, job, 0, 1))
    thread, thread_count = (
        builder.sext(builder.call(_external(module, name, number, []), []), word)
        for name in ("omp_get_thread_num", "omp_get_num_threads")
    )
    first = builder.sdiv(builder.mul(count, thread), thread_count)
    last = builder.sdiv(builder.mul(count, builder.add(thread, ir.Constant(word, 1))), thread_count)
    each = [builder.extract_value(values, place) for place in range(len(argument_types.elements))]
    context.call_internal_no_propagate(builder, compiled.fndesc, compiled.signature, [*each, first, last])
    builder.ret_void()
    return body


def _external(module: Any, name: str, returns: Any, arguments: list[Any]) -> Any:
    return cgutils.get_or_insert_function(module, ir.FunctionType(returns, arguments), PREFIX + name)


def _pointer() -> Any:
    return ir.IntType(8).as_pointer()
