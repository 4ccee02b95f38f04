"""torch.compile for one module, and training without it where its compiler does not work."""

from __future__ import annotations

from torch import nn


def compile_in_place(module: nn.Module) -> str:
    """Compile `module` at its first call, in place, so that names of weights do not change.

    Returns:
        A sentence if this Python or system has no torch.compile: the module is left as it was. Otherwise "".
    """
    try:
        module.compile()
    except RuntimeError as error:
        return fallback_sentence(error)
    return ""


def compiler_failed(error: BaseException) -> bool:
    """Whether `error`, raised by a call of a compiled module, is the compiler's and not the module's own."""
    from torch._dynamo.exc import TorchDynamoException  # imports the compiler, which takes seconds

    return isinstance(error, TorchDynamoException)


def undo_compilation(module: nn.Module) -> None:
    """Run `module` as it was before `compile_in_place`; torch has no function for it."""
    module._compiled_call_impl = None


def fallback_sentence(error: BaseException) -> str:
    """Say that training goes on without torch.compile, and why."""
    cause = getattr(error, "inner_exception", error)
    why = next((line.strip() for line in str(cause).splitlines() if line.strip()), type(cause).__name__).rstrip(".:")
    return f"torch.compile does not work here ({why}); training goes on without it. Set compile=false to not try it."
