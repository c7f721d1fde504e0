"""Every exception and warning that fwdkern raises on purpose."""


class FwdkernError(Exception):
    """Base of all errors raised by fwdkern; the message says what was given, what was expected and what to do."""


class InputError(FwdkernError, ValueError):
    """An argument has a wrong shape, dtype, device, range or content."""


class LayerError(FwdkernError, LookupError):
    """A layer name is not in the network."""


class CaptureError(FwdkernError):
    """torch.export could not turn the model into a graph."""


class UnsupportedOperatorError(FwdkernError):
    """A map was asked for that passes through an operator without a relevance rule."""


class CompletenessError(FwdkernError):
    """Maps do not sum to their units' values within the tolerance of their dtype."""


class BackendError(FwdkernError, RuntimeError):
    """A backend was asked for by name that cannot run here."""


class DeviceMemoryError(FwdkernError, MemoryError):
    """A GPU's memory ran out; what was taken for the request has been given back."""


class CompletenessWarning(UserWarning):
    """The same finding as CompletenessError, when ``strict`` is off."""
