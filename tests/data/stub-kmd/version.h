/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef TENSTORRENT_VERSION_H
#define TENSTORRENT_VERSION_H

/* The one place that names the version; the test repository writes it for each tag ttkmd-<version>. */
#define TENSTORRENT_DRIVER_VERSION "0.0.0"

#endif
