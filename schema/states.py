"""Every state and reason that a node can show, in one table; schema enums, docs, metrics and sums derive from it."""

from enum import StrEnum


class NodeState(StrEnum):
    """`ttdp.status.nodes[].state`: upstream's names plus Staging, Validating, Blocked, Waiting, Held, Skipped, Offline."""

    PENDING = "Pending"
    WAITING = "Waiting"
    STAGING = "Staging"
    CORDONING = "Cordoning"
    DRAINING = "Draining"
    UPGRADING = "Upgrading"
    VALIDATING = "Validating"
    UNCORDONING = "Uncordoning"
    DONE = "Done"
    BLOCKED = "Blocked"
    FAILED = "Failed"
    HELD = "Held"
    SKIPPED = "Skipped"
    OFFLINE = "Offline"
    HOST_MANAGED = "HostManaged"
    UNLOADING = "Unloading"
    UNMANAGED = "Unmanaged"
    UNLOAD_FAILED = "UnloadFailed"


#: states in which a record of ours is on the node
IN_PROGRESS = frozenset(
    {
        NodeState.CORDONING,
        NodeState.DRAINING,
        NodeState.UPGRADING,
        NodeState.VALIDATING,
        NodeState.UNCORDONING,
        NodeState.UNLOADING,
    }
)
#: states that do not keep the next wave closed (design, section 2.8)
TERMINAL = frozenset(
    {NodeState.DONE, NodeState.HOST_MANAGED, NodeState.SKIPPED, NodeState.HELD, NodeState.OFFLINE}
)


class Reason(StrEnum):
    """Why a node is not Done, or why an attempt ended as it did. `REASONS` says what each means and what to do."""

    WAVE_CLOSED = "WaveClosed"
    BUDGET = "Budget"
    NOT_LEADER = "NotLeader"
    POLICY_PAUSED = "PolicyPaused"
    HELD = "Held"
    SKIP_LABEL = "SkipLabel"
    OBSERVE = "Observe"
    HOST_MANAGED_KMD = "HostManagedKMD"
    EXTERNAL_CORDON = "ExternalCordon"
    FIRMWARE_UPGRADE = "FirmwareUpgrade"
    NODE_NOT_READY = "NodeNotReady"
    NO_FACTS = "NoFacts"
    OVERLAP = "Overlap"
    UNKNOWN_RELEASE = "UnknownRelease"
    NOT_SUPPORTED = "NotSupported"
    BACK_OFF = "BackOff"
    PDB_BLOCKED = "PDBBlocked"
    PDB_MISCONFIGURED = "PDBMisconfigured"
    POD_RELANDED = "PodRelanded"
    UNDRAINABLE_HOLDER = "UndrainableHolder"
    DRAIN_TIMEOUT = "DrainTimeout"
    UNKNOWN_HOLDER = "UnknownHolder"
    DEVICE_IN_USE = "DeviceInUse"
    BUILD_FAILED = "BuildFailed"
    SOURCE_UNAVAILABLE = "SourceUnavailable"
    SOURCE_MISMATCH = "SourceMismatch"
    HEADERS_MISSING = "HeadersMissing"
    NO_SPACE = "NoSpace"
    PREFLIGHT_FAILED = "PreflightFailed"
    MODULES_DISABLED = "ModulesDisabled"
    MODULE_BLACKLISTED = "ModuleBlacklisted"
    SIGNATURE_REQUIRED = "SignatureRequired"
    NO_FALLBACK = "NoFallback"
    HOST_BUSY = "HostBusy"
    PERMIT_VOID = "PermitVoid"
    UNLOAD_FAILED = "UnloadFailed"
    LOAD_FAILED = "LoadFailed"
    VERIFY_FAILED = "VerifyFailed"
    REBOOT_REQUIRED = "RebootRequired"
    ROLLED_BACK = "RolledBack"
    VERDICT_LOST = "VerdictLost"
    REBOOTED = "Rebooted"
    BUILDER_CRASH_LOOP = "BuilderCrashLoop"
    BUILDER_IMAGE_PULL_FAILED = "BuilderImagePullFailed"
    MODULE_REMOVED = "ModuleRemoved"
    DKMS_RETURNED = "DKMSReturned"
    TARGET_CHANGED = "TargetChanged"
    HUMAN_UNCORDON = "HumanUncordon"
    STATE_ROLLED_BACK = "StateRolledBack"
    UNMANAGED = "Unmanaged"
    UNREADABLE_ANNOTATION = "UnreadableAnnotation"


#: reason -> (what it means, what to do); docs/reasons.md shows it (a test holds the two equal)
REASONS: dict[Reason, tuple[str, str]] = {
    Reason.WAVE_CLOSED: ("an earlier wave has not finished", "nothing: the wave opens by itself"),
    Reason.BUDGET: (
        "as many nodes are unavailable as the budgets allow",
        "nothing: it starts when a slot is free",
    ),
    Reason.NOT_LEADER: ("this operator does not hold the Lease", "nothing: the other operator decides"),
    Reason.POLICY_PAUSED: ("spec.paused of the ttdp is true", "set it to false"),
    Reason.HELD: ("annotation fleet.tenstorrent.com/hold is set", "remove the annotation"),
    Reason.SKIP_LABEL: (
        "label driver.tenstorrent.com/skip is set",
        "remove the label to bring the node back",
    ),
    Reason.OBSERVE: ("the FleetSync only observes", "set spec.mode: Enforce in the chart"),
    Reason.HOST_MANAGED_KMD: (
        "DKMS owns the driver and no vacate is declared",
        "vacate: Once in the fleet repository",
    ),
    Reason.EXTERNAL_CORDON: ("somebody else cordoned the node", "uncordon it when it is ready for work"),
    Reason.FIRMWARE_UPGRADE: ("a firmware flash owns the node", "nothing: it starts afterwards"),
    Reason.NODE_NOT_READY: ("the kubelet does not report Ready", "bring the node back"),
    Reason.NO_FACTS: (
        "the keeper has not reported facts of this boot",
        "look at the ttdrv-keep pod of the node",
    ),
    Reason.OVERLAP: ("two ttdp want different targets here", "make their nodeAffinity disjoint"),
    Reason.UNKNOWN_RELEASE: (
        "the version has no pin",
        "add a Release to the fleet repository, or spec.source",
    ),
    Reason.NOT_SUPPORTED: ("this ttfleet cannot do this kind of change yet", "see the changelog"),
    Reason.BACK_OFF: (
        "the last attempt failed; the next one waits",
        "nothing; annotation fleet.tenstorrent.com/retry to try at once",
    ),
    Reason.PDB_BLOCKED: (
        "a PodDisruptionBudget allows no eviction",
        "scale the workload up or relax the budget",
    ),
    Reason.PDB_MISCONFIGURED: ("more than one PodDisruptionBudget selects a pod", "leave one of them"),
    Reason.POD_RELANDED: (
        "an evicted pod's owner put it back on the cordoned node",
        "drop its Exists toleration",
    ),
    Reason.UNDRAINABLE_HOLDER: (
        "a pod that eviction cannot move holds the device",
        "stop it or gate its DaemonSet",
    ),
    Reason.DRAIN_TIMEOUT: ("pods did not leave within drain.timeoutSeconds", "look at the pods named"),
    Reason.UNKNOWN_HOLDER: (
        "refcnt is above 0 and nobody is seen holding it",
        "find the holder; never rmmod -f",
    ),
    Reason.DEVICE_IN_USE: ("a process on the host holds the device", "stop the process named"),
    Reason.BUILD_FAILED: ("the module did not compile", "kubectl logs of the ttstage pod"),
    Reason.SOURCE_UNAVAILABLE: (
        "the source could not be cloned",
        "check proxy (controller.extraEnv) and repository",
    ),
    Reason.SOURCE_MISMATCH: ("the source is not the pinned commit", "a moved tag: find out who moved it"),
    Reason.HEADERS_MISSING: ("no kernel headers for this kernel", "install the headers package on the host"),
    Reason.NO_SPACE: ("the cache has no space left", "free space below /var/cache/tt-kmd"),
    Reason.PREFLIGHT_FAILED: ("the staged module does not fit the kernel", "kubectl logs of the ttstage pod"),
    Reason.MODULES_DISABLED: ("kernel.modules_disabled is 1", "reboot without it"),
    Reason.MODULE_BLACKLISTED: (
        "module_blacklist= names tenstorrent",
        "remove it from the kernel command line",
    ),
    Reason.SIGNATURE_REQUIRED: ("the kernel takes signed modules only", "enrol a key the builder can use"),
    Reason.NO_FALLBACK: ("no file matches the loaded module", "stage the present version first"),
    Reason.HOST_BUSY: ("another verb holds the host lock", "nothing: it is tried again"),
    Reason.PERMIT_VOID: (
        "record, boot or cordon changed before the claim",
        "nothing: the node is decided anew",
    ),
    Reason.UNLOAD_FAILED: ("rmmod was refused", "find the holder named in the message"),
    Reason.LOAD_FAILED: ("insmod failed", "kubectl logs of the ttswap pod"),
    Reason.VERIFY_FAILED: ("the new module did not verify after loading", "kubectl logs of the ttswap pod"),
    Reason.REBOOT_REQUIRED: ("neither the new nor the previous module loads", "reboot the node"),
    Reason.ROLLED_BACK: (
        "the new module failed; the previous one is live",
        "see the reason in history; annotation fleet.tenstorrent.com/retry for another try",
    ),
    Reason.VERDICT_LOST: (
        "the worker ended without a verdict",
        "nothing: another worker resumes the journal",
    ),
    Reason.REBOOTED: ("the node rebooted in the middle", "nothing: it is decided anew"),
    Reason.BUILDER_CRASH_LOOP: ("builder pods end without a verdict", "kubectl logs of the pod named"),
    Reason.BUILDER_IMAGE_PULL_FAILED: (
        "the builder image cannot be pulled",
        "check installer.image and the registry",
    ),
    Reason.MODULE_REMOVED: ("the module that was live is gone", "find out who unloaded it"),
    Reason.DKMS_RETURNED: ("DKMS is back on a vacated machine", "remove it, or vacate: Always"),
    Reason.TARGET_CHANGED: (
        "the ttdp no longer wants what this attempt was for",
        "nothing: it is decided anew",
    ),
    Reason.HUMAN_UNCORDON: (
        "somebody uncordoned the node before the claim",
        "nothing: the attempt was given up",
    ),
    Reason.STATE_ROLLED_BACK: (
        "the host has done more than the cluster remembers",
        "find out what was restored from a backup",
    ),
    Reason.UNMANAGED: ("spec.unmanage of the ttdp is true", "set it to false"),
    Reason.UNREADABLE_ANNOTATION: (
        "an annotation of ours on the node does not parse; nothing is done there",
        "repair or remove the annotation named in the message",
    ),
}
