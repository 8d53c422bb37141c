"""The MLflow registry. Only this package imports mlflow.

registry.py                        register, load and evaluate versions
versions.py, quality.py            find versions; a version's metrics
champion.py, champion_history.py   promote and roll back; the history of the champion alias
ranker_card.py, interest_card.py   model cards
shipping.py                        the code that a version ships
tracking.py                        MLflow's settings, errors and inputs
erasure.py, relocation.py          delete pages; update addresses after a home was moved
"""
