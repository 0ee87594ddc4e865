"""From a job file to the objects it names."""

from narrows.config.derived import with_parent as with_parent
from narrows.config.explained import Entry as Entry
from narrows.config.explained import explain as explain
from narrows.config.explained import explain_job as explain_job
from narrows.config.job import SECTIONS as SECTIONS
from narrows.config.job import Job as Job
from narrows.config.job import Scalar as Scalar
from narrows.config.job import dump_job as dump_job
from narrows.config.job import load_job as load_job
from narrows.config.job import parse_job as parse_job
from narrows.config.measured import measurements as measurements
from narrows.config.measured import proxy_of_other_rows as proxy_of_other_rows
from narrows.config.measured import quality_of_proxy as quality_of_proxy
from narrows.config.names import SCORE as SCORE
from narrows.config.names import RewardKind as RewardKind
from narrows.config.parts import Parts as Parts
from narrows.config.parts import assemble as assemble
from narrows.config.parts import build as build
from narrows.config.parts import build_env as build_env
from narrows.config.parts import build_kernel as build_kernel
from narrows.config.parts import build_reward as build_reward
from narrows.config.schema import JobError as JobError
from narrows.config.settings import DataSettings as DataSettings
from narrows.config.settings import NearSettings as NearSettings
from narrows.config.settings import ShortlistSettings as ShortlistSettings
from narrows.config.settings import TrainSettings as TrainSettings
