"""The run plan: settings, their file format, the hash that all parties compare, and the order of training.

Pure: files are read only by `read_settings`; nothing here opens a socket or looks at a clock.
"""

from mple.data.settings import NormalisationSettings
from mple.model.settings import (
    Augment,
    ClassWeights,
    ModelSettings,
    OptimiserName,
    Precision,
    TaskKind,
    TaskSettings,
    TrainingSettings,
    WeightsFrom,
)
from mple.plan.node_settings import (
    ComputeSettings,
    CoordinatorSettings,
    MonitoringSettings,
    ReportSettings,
    RunSettings,
    SiteMetricSettings,
    SiteSettings,
)
from mple.plan.reader import SettingsError, read_settings, settings_from, with_paths_from, write_settings
from mple.plan.run_plan import PlanError, RunPlan, SitePlan
from mple.plan.sampler import GlobalSampler
from mple.plan.settings import (
    AbsencePolicy,
    AbsenceSettings,
    Custody,
    DeliveredDtype,
    DeliverTo,
    DeliverySettings,
    MorphSettings,
    NoiseShape,
    PrivacyMode,
    PrivacySettings,
    RunChoices,
    WireSettings,
    changed_sections,
    choices_of,
)

__all__ = [
    "AbsencePolicy",
    "AbsenceSettings",
    "Augment",
    "ClassWeights",
    "ComputeSettings",
    "CoordinatorSettings",
    "Custody",
    "DeliverTo",
    "DeliveredDtype",
    "DeliverySettings",
    "GlobalSampler",
    "ModelSettings",
    "MonitoringSettings",
    "MorphSettings",
    "NoiseShape",
    "NormalisationSettings",
    "OptimiserName",
    "PlanError",
    "Precision",
    "PrivacyMode",
    "PrivacySettings",
    "ReportSettings",
    "RunChoices",
    "RunPlan",
    "RunSettings",
    "SettingsError",
    "SiteMetricSettings",
    "SitePlan",
    "SiteSettings",
    "TaskKind",
    "TaskSettings",
    "TrainingSettings",
    "WeightsFrom",
    "WireSettings",
    "changed_sections",
    "choices_of",
    "read_settings",
    "settings_from",
    "with_paths_from",
    "write_settings",
]
