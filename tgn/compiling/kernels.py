"""How numba is made to compile kernels in seconds: arrays that are handed on by address, and code that is made once.

As numba compiles, each function is optimised, made machine code and given an entry from Python by itself, then again in
everything that calls it. Here a kernel that another calls is only translated; what Python calls is optimised, with all
that it calls, and emitted. What large tuples are to kernels is in `tgn.compiling.addresses`.
"""

from collections.abc import Callable
from typing import Any, ClassVar

from numba.core import types
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler, DefaultPassBuilder, Flags
from numba.core.compiler_machinery import PassManager
from numba.core.registry import CPUDispatcher
from numba.core.typed_passes import NopythonTypeInference, PreLowerStripPhis
from numba.core.untyped_passes import FixupArgs, GenericRewrites, IRProcessing, ReconstructSSA, TranslateByteCode

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

    def _optimize_functions(self, module: Any) -> None:
        module.data_layout = self._codegen._data_layout

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


class _KernelFlags(Flags):
    """How a kernel is compiled. Of equal ones there is one alone: numba compares them by the ten thousand."""

    known: ClassVar[dict["_KernelFlags", "_KernelFlags"]] = {}
    digest: int

    @classmethod
    def like(cls, flags: Flags) -> "_KernelFlags":
        made = cls(flags)
        made.digest = Flags.__hash__(flags)
        return cls.known.setdefault(made, made)

    def copy(self) -> "_KernelFlags":
        """Nobody writes to it."""
        return self

    def __hash__(self) -> int:
        return self.digest

    def __eq__(self, other: object) -> bool:
        return self is other or super().__eq__(other)


class _Emitter(Compiler):
    """Compiles what Python calls."""

    library: type[JITCodeLibrary] = _Emitted

    def define_pipelines(self) -> list[PassManager]:
        """The steps that kernels need: there are no closures, `with` blocks, array expressions or None in them."""
        steps = PassManager("kernel")
        for step in (
            TranslateByteCode, FixupArgs, IRProcessing, GenericRewrites, ReconstructSSA,
            NopythonTypeInference, PreLowerStripPhis,
        ):  # fmt: skip
            steps.add_pass(step, step.__name__)
        steps.passes += DefaultPassBuilder.define_nopython_lowering_pipeline(self.state).passes
        steps.finalize()
        return [steps]

    def compile_extra(self, function: Any) -> Any:
        self.state.flags = _KernelFlags.like(self.state.flags)
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

    def get_call_template(self, args: Any, kws: Any) -> Any:
        """Compiles one form for whatever whole numbers are given, be they written out or of few bits."""
        return super().get_call_template([_widest(arg) for arg in args], {k: _widest(arg) for k, arg in kws.items()})

    def add_overload(self, result: Any) -> None:
        self.overloads[tuple(result.signature.args)] = result


def _widest(arg: types.Type) -> types.Type:
    arg = types.unliteral(arg)
    return types.int64 if arg in types.signed_domain else arg


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
