"""The MLflow registry. Only this package imports mlflow.

registry.py                        register, load and evaluate versions
versions.py, quality.py            find versions; a version's metrics
champion.py, champion_history.py   promote and roll back; the history of the champion alias
ranker_card.py, interest_card.py   model cards
shipping.py                        the code that a version ships
mlflow_store.py                    MLflow's settings and errors, upgrades, addresses after a home was moved
tracking.py                        what is logged with a run
erasure.py                         delete pages
"""
