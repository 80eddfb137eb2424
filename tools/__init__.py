import sys

import processor  # before torch: how its threads wait

sys.excepthook = processor.show_stopped
