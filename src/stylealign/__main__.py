"""`python -m stylealign`."""

from stylealign.cli import main; import sys; sys.exit(main())
