"""NNCodec's part of `files_peers`, which runs in an environment of NNCodec's own.

    python benchmarks/nncodec_peer.py ARRAYS.npz FOLDER '[-38, -32]'

ARRAYS.npz holds float32 arrays. For each quantisation parameter (QP), with its dependent
quantisation (trellis) and without, FOLDER gets the decoded arrays, and the standard output ends
with a line of JSON: the bytes of each bitstream.
"""

import json
import sys
from pathlib import Path

import numpy as np
from nncodec import nnc


def main() -> None:
    """Encode, decode and print."""
    arrays = dict(np.load(sys.argv[1]))
    folder, sizes = Path(sys.argv[2]), {}
    for qp in json.loads(sys.argv[3]):
        for trellis in (True, False):
            name = f"{qp} {'trellis' if trellis else 'plain'}"
            stream = nnc.compress(
                dict(arrays),
                bitstream_path=str(folder / "stream.nnc"),
                qp=qp,
                use_dq=trellis,
                row_skipping=True,
                param_opt=True,
                return_bitstream=True,
            )
            decoded = nnc.decompress(stream)
            np.savez(folder / f"{name}.npz", **{key: decoded[key] for key in arrays})
            sizes[name] = len(bytes(stream))
    print(json.dumps(sizes))


if __name__ == "__main__":
    main()
