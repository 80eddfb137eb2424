"""Tables of finished runs: ``python -m tools.table work_dir/nw_ucla_lt --baseline cross_entropy``"""

import sys

from processor.study.tables import main

if __name__ == "__main__":
    sys.exit(main())
