"""What this machine has, what is missing, and the line that mends it."""

from nndl_suite.doctor.examination import examine, is_healthy
from nndl_suite.doctor.finding import Finding

__all__ = ["Finding", "examine", "is_healthy"]
