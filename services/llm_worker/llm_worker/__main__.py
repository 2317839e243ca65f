"""`python -m llm_worker`: one worker, until a signal."""

from llm_worker.main import main

raise SystemExit(main())
