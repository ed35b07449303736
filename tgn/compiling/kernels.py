"""How numba is made to compile kernels in seconds: arrays that are handed on by address, and code that is made once.

As numba compiles, each function is optimised, made machine code and given an entry from Python by itself, then again in
everything that calls it. Here a kernel that another calls is only translated; what Python calls is optimised, with all
that it calls, and emitted. What large tuples are to kernels is in `tgn.compiling.addresses`.
"""

from collections.abc import Callable
from typing import Any

from numba.core import types
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler
from numba.core.registry import CPUDispatcher

from tgn.compiling.addresses import MARKED, Place

SMALL = 8


class _Translated(JITCodeLibrary):
    """What other kernels link: no machine code.

    One that has up to `SMALL` kernels in it is optimised, loops above all, before it goes into others: so its floats
    come out to the same last bit wherever it goes, as they did when every kernel was compiled by itself.
    """

    def _optimize_final_module(self) -> None:
        kernels = [function for function in self._final_module.functions if function.name.startswith("_ZN3tgn")]
        if len(kernels) <= SMALL:
            super()._optimize_final_module()

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True


class _Emitted(JITCodeLibrary):
    """What Python calls, with all that it calls in it: a copy of its own, so that it is the same in every process."""

    def _optimize_final_module(self) -> None:
        for function in self._final_module.functions:
            if function.linkage.name == "linkonce_odr":
                function.linkage = "internal"
        super()._optimize_final_module()


class _Emitter(Compiler):
    """Compiles what Python calls."""

    library: type[JITCodeLibrary] = _Emitted

    def compile_extra(self, function: Any) -> Any:
        self.state.library = self.library(self.state.targetctx.codegen(), function.__qualname__)
        self.state.library.enable_object_caching()
        return super().compile_extra(function)


class _Translator(_Emitter):
    """Compiles what kernels call."""

    library = _Translated

    def compile_extra(self, function: Any) -> Any:
        self.state.targetctx.get_executable = lambda *_: object()  # its key among functions
        return super().compile_extra(function)


class _OfKernels(CPUDispatcher):
    """What kernels call. There is nothing to run by itself, so Python is told of nothing."""

    def add_overload(self, result: Any) -> None:
        self.overloads[tuple(result.signature.args)] = result


BEFORE_FIRST_CALL: list[Callable[["Kernel"], None]] = []
"""Called with a kernel before Python calls it for the first time in this process with arguments of some types."""


class Kernel(CPUDispatcher):
    """A function that Python calls, and that other kernels call in another form."""

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]) -> None:
        super().__init__(function, targetoptions=options, pipeline_class=_Emitter)
        self.enable_caching()
        inner = options | {"no_cpython_wrapper": True}
        self.of_kernels = _OfKernels(function, targetoptions=inner, pipeline_class=_Translator)

    def __call__(self, *args: Any) -> Any:
        """Runs it; a named tuple that is marked and not held at a `Place` yet is laid out for this call alone."""
        return super().__call__(*[Place().hold(given) if type(given) in MARKED else given for given in args])

    @property
    def _numba_type_(self) -> types.Dispatcher:
        """What a kernel sees where it names this one."""
        return types.Dispatcher(self.of_kernels)

    def _compile_for_args(self, *args: Any, **kws: Any) -> Any:
        """Where numba has nothing yet for such arguments of Python's."""
        for prepare in BEFORE_FIRST_CALL:
            prepare(self)
        return super()._compile_for_args(*args, **kws)


def kernels_within(kernel: Kernel) -> set[Kernel]:
    """The kernel and all that it calls, directly or not."""
    found, left = set[Kernel](), [kernel]
    while left:
        one = left.pop()
        if one not in found:
            found.add(one)
            called = (one.py_func.__globals__.get(name) for name in one.py_func.__code__.co_names)
            left += [other for other in called if isinstance(other, Kernel)]
    return found
