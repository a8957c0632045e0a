"""What a run writes of its operation while it trains, and the trace of some steps; no bit changes."""

import gzip
import json
import time

import jax
import numpy as np
import optax
import pytest

from groundwork.architectures import registry
from groundwork.devices import mesh as mesh_lib
from groundwork.devices import processes
from groundwork.devices.interruption import Interrupted, Interruption
from groundwork.devices.profile import Profile
from groundwork.runs import metrics, operations
from groundwork.train import loop, meter, networks, programs
from tests.groundwork.contexts import context_of
from tests.groundwork.data.reading import *  # noqa
