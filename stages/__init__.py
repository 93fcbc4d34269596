"""One short script per DVC stage: read inputs, call the package, write outputs."""

import gc
import sys
from functools import partial

from permeation import config
from permeation.frame import stage
from permeation.frame.signals import end_with_dvc

end_with_dvc()

# A stage that is about to start (`python -m stages.…`) imports half a million objects that live as long as it does. The
# cyclic garbage collector would look through them again and again, a fifth of the time; permeation.frame.stage.run lets
# it work again.
if sys.argv[0] == "-m":
    gc.disable()

Stage = stage.Stage[config.Config]
run = partial(stage.run, load=config.load)
