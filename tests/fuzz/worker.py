"""The process of `soaking.soak`: tries what it is told to, and says what came of it in lines of JSON."""

import faulthandler
import json
import logging
import sys
import warnings
from pathlib import Path

from tests.fuzz.soaking import work

if __name__ == "__main__":
    faulthandler.enable()
    warnings.simplefilter("ignore")
    logging.getLogger("caffe2tf").addHandler(logging.NullHandler())
    job = json.loads(sys.argv[1])
    work(job["plan"], job["seed"], tuple(job["start"]), Path(job["kept"]), Path(job["place"]))
    print(json.dumps({"at": [len(job["plan"]), 0], "finished": True}), flush=True)
