"""Maps: a pipeline over many rows, into a DataFrame or a file; continued where one was interrupted."""

from dspex_lab.pipelines.maps._frames import check_columns, check_labels, read_rows
from dspex_lab.pipelines.maps._keeps import Records
from dspex_lab.pipelines.maps._maps import Maps, is_query
from dspex_lab.pipelines.maps._plan import MapOptions, MapPlan
from dspex_lab.pipelines.maps._result import MapResult

__all__ = ["MapOptions", "MapPlan", "MapResult", "Maps", "Records", "check_columns", "check_labels", "is_query", "read_rows"]
