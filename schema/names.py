"""Every name that ttfleet shares with other software, once.

Names of `driver.tenstorrent.com` and `firmware.tenstorrent.com` are upstream's contracts
(tenstorrent/tt-k8s-driver-manager) and never ours to change; names of `fleet.tenstorrent.com` are ours.
"""

from typing import Final

# --- API groups and resources -------------------------------------------------------------------------
DRIVER_GROUP: Final = "driver.tenstorrent.com"
FLEET_GROUP: Final = "fleet.tenstorrent.com"
V1ALPHA1: Final = "v1alpha1"
DRIVER_API_VERSION: Final = f"{DRIVER_GROUP}/{V1ALPHA1}"
FLEET_API_VERSION: Final = f"{FLEET_GROUP}/{V1ALPHA1}"
POLICY_KIND: Final = "TenstorrentDriverPolicy"
POLICY_PLURAL: Final = "tenstorrentdriverpolicies"
SYNC_KIND: Final = "FleetSync"
SYNC_PLURAL: Final = "fleetsyncs"

# --- node labels --------------------------------------------------------------------------------------
LABEL_PRESENT: Final = "feature.node.kubernetes.io/pci-1200_1e52.present"  # "true": NFD saw a card
LABEL_INSTALL_MODE: Final = "driver.tenstorrent.com/install-mode"  # host | container, written by the builder
LABEL_KMD_VERSION: Final = "driver.tenstorrent.com/kmd-version"  # what is loaded now, never what is wanted
LABEL_SKIP: Final = "driver.tenstorrent.com/skip"  # any presence keeps the node out of all driver work
LABEL_HOSTNAME: Final = "kubernetes.io/hostname"
LABEL_FIRMWARE_STATE: Final = "firmware.tenstorrent.com/upgrade-state"
DEPLOY_GATE_TELEMETRY: Final = "tenstorrent.com/deploy.tt-telemetry"  # "false" while the driver is swapped
DEPLOY_GATES: Final = (DEPLOY_GATE_TELEMETRY,)
DEPLOY_GATE_CLOSED: Final = "false"

# --- node annotations ---------------------------------------------------------------------------------
ANNOTATION_TXN: Final = "fleet.tenstorrent.com/txn"  # schema.transaction.Record, written by the operator
ANNOTATION_CLAIM: Final = "fleet.tenstorrent.com/claim"  # schema.transaction.Claim, written by the builder
ANNOTATION_HISTORY: Final = "fleet.tenstorrent.com/history"  # schema.transaction.History, by the operator
ANNOTATION_HOST_FACTS: Final = "fleet.tenstorrent.com/host-facts"  # schema.facts.HostFacts, by the builder
ANNOTATION_HOLD: Final = "fleet.tenstorrent.com/hold"  # "<who>: <why>", written by people only
ANNOTATION_RETRY: Final = "fleet.tenstorrent.com/retry"  # RFC 3339: older failures no longer count
ANNOTATION_KEEP_CORDONED: Final = "fleet.tenstorrent.com/keep-cordoned"  # a human: do not uncordon
ANNOTATION_CORDONED_BY: Final = "driver.tenstorrent.com/cordoned-by"  # ours reads "ttfleet/<cr>": no CR name
ANNOTATION_CORDONED_AT: Final = "driver.tenstorrent.com/cordoned-at"
ANNOTATION_FIRMWARE_CORDON: Final = "firmware.tenstorrent.com/cordoned-by"  # a firmware flash owns the node

# --- labels and annotations of a ttdp -----------------------------------------------------------------
LABEL_SYNC: Final = "fleet.tenstorrent.com/sync"  # name of the FleetSync that applied it
LABEL_POOL: Final = "fleet.tenstorrent.com/pool"
LABEL_WAVE: Final = "fleet.tenstorrent.com/wave"
ANNOTATION_RANK: Final = "fleet.tenstorrent.com/rank"  # position of the wave in its pool, from 0
ANNOTATION_PLAN: Final = "fleet.tenstorrent.com/plan"  # <pool>/<n>-<digest>, set when the wave opens
ANNOTATION_PROMOTED: Final = "fleet.tenstorrent.com/promoted"  # JSON Target last promoted for this CR
ANNOTATION_PROMOTED_PLAN: Final = "fleet.tenstorrent.com/promoted-plan"  # plan that promoted it
ANNOTATION_COMMIT: Final = "fleet.tenstorrent.com/commit"  # revision that rendered it

# --- pods, DaemonSet, Lease ---------------------------------------------------------------------------
LABEL_CR: Final = "driver.tenstorrent.com/cr"
LABEL_APP: Final = "app.kubernetes.io/name"
LABEL_COMPONENT: Final = "app.kubernetes.io/component"
LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
APP_INSTALLER: Final = "tt-kmd-installer"
COMPONENT_DRIVER: Final = "driver"
LABEL_USES_DEVICE: Final = "tenstorrent.com/uses-device"
DEVICE_RESOURCE_PREFIX: Final = "tenstorrent.com/"
DEVICE_DIRECTORY: Final = "/dev/tenstorrent"
KEEPER_DAEMONSET: Final = "ttdrv-keep"
STAGE_POD_PREFIX: Final = "ttstage-"
SWAP_POD_PREFIX: Final = "ttswap-"
LABEL_POD_ROLE: Final = "fleet.tenstorrent.com/role"  # keep | stage | swap
ANNOTATION_POD_TXN: Final = "fleet.tenstorrent.com/txn-id"
ANNOTATION_POD_TARGET: Final = "fleet.tenstorrent.com/target"  # JSON Target
ANNOTATION_POD_ATTEMPT: Final = "fleet.tenstorrent.com/attempt"  # from 1
LEASE_OPERATOR: Final = "ttfleet-operator"
LEASE_RECONCILER: Final = "ttfleet-reconciler"
NAMESPACE_DEFAULT: Final = "tt-k8s-driver-manager-system"

# --- field managers: one writer per field -------------------------------------------------------------
MANAGER_OPERATOR: Final = "ttfleet-operator"
MANAGER_RECONCILER: Final = "ttfleet-reconciler"
MANAGER_BUILDER: Final = "ttfleet-builder"
SERVICE_ACCOUNT_OPERATOR: Final = "ttfleet-operator"
SERVICE_ACCOUNT_RECONCILER: Final = "ttfleet-reconciler"
SERVICE_ACCOUNT_BUILDER: Final = "ttfleet-builder"

# --- the builder's environment and paths --------------------------------------------------------------
ENV_KMD_VERSION: Final = "TT_KMD_VERSION"
ENV_NODE_NAME: Final = "NODE_NAME"
ENV_FORCE_UNLOAD: Final = "TT_FORCE_UNLOAD"
ENV_REPOSITORY: Final = "TTFLEET_REPOSITORY"
ENV_COMMIT: Final = "TTFLEET_COMMIT"
ENV_TXN_ID: Final = "TTFLEET_TXN_ID"
ENV_BOOT_ID: Final = "TTFLEET_BOOT_ID"
ENV_HOST_ROOT: Final = "TTFLEET_HOST_ROOT"  # where the host's / is mounted; /host in the image
ENV_HOST_BIN: Final = "TTFLEET_HOST_BIN"  # command prefix directory of a fake host; unset on a real one
ENV_TERMINATION_LOG: Final = "TTFLEET_TERMINATION_LOG"
ENV_SERVICE_ACCOUNT_DIR: Final = "TTFLEET_SERVICE_ACCOUNT_DIR"
DEFAULT_REPOSITORY: Final = "https://github.com/tenstorrent/tt-kmd.git"
SOURCE_TAG_PREFIX: Final = "ttkmd-"
CACHE_DIRECTORY: Final = "/var/cache/tt-kmd"  # <kver>/<version>/tenstorrent.ko
STATE_DIRECTORY: Final = "/var/lib/ttfleet"  # lock, journal, active.json, vacated.json, backup/
UDEV_RULE: Final = "/etc/udev/rules.d/50-tenstorrent.rules"
MODULE: Final = "tenstorrent"
DKMS_SIGNALS: Final = ("/var/lib/dkms/tenstorrent", "/usr/src/tenstorrent-*/dkms.conf")
