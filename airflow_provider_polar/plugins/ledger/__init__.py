"""The ledger: a page of Airflow that shows which windows are exported, once, and verified.

Data flows one way: tasks keep records as XComs (:mod:`.records`), the web server reads them back with bounded queries
(:mod:`.history`), makes calendars of them (:mod:`.calendars`) and serves both to the page (:mod:`.app`).
"""
