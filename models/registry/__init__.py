"""MLflow: register versions, move aliases, log quality, erase. The only room that imports mlflow.

registry.py          register and load versions
versions.py          find versions; quality.py their metrics
champion.py          promote and roll back; champion_history.py every move
ranker_card.py, interest_card.py   what a version says of itself
shipping.py          the code that a version carries
erasure.py, relocation.py, tracking.py   pages to erase, homes that moved, runs
"""
