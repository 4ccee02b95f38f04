"""The one exception that means "your input is wrong", with a sentence fit to be shown as it is."""


class InputError(ValueError):
    """Wrong input, told in one sentence that names the file, the row and the mend (command line: exit code 2)."""
