"""Imports submitit where pytest starts.

Its import ends all handlers of logging. Within a test, absl's would close the stream that pytest
captures.
"""

import submitit  # noqa: F401
