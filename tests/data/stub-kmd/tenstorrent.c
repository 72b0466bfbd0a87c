// SPDX-License-Identifier: GPL-2.0-only
/*
 * A stand-in for tt-kmd in tests: same module name, same device nodes, same life cycle, no Tenstorrent hardware.
 *
 * Binds to QEMU's `edu` device, creates /dev/tenstorrent/<n> on a dynamic major, and maps the device's BAR 0.
 * An open descriptor or a mapping holds the module, as in the real driver.
 */
#include <linux/cdev.h>
#include <linux/device.h>
#include <linux/fs.h>
#include <linux/idr.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/slab.h>
#include <linux/version.h>

#include "version.h"

#define TENSTORRENT "tenstorrent"
#define TENSTORRENT_MAX_DEVICES 32
#define EDU_VENDOR_ID 0x1234
#define EDU_DEVICE_ID 0x11e8

static unsigned int max_devices = TENSTORRENT_MAX_DEVICES;
module_param(max_devices, uint, 0444);
MODULE_PARM_DESC(max_devices, "Number of devices that get a node.");

static unsigned int reset_limit = 10;
module_param(reset_limit, uint, 0444);
MODULE_PARM_DESC(reset_limit, "Kept for compatibility with the real driver; without effect here.");

struct stub_device {
	struct cdev cdev;
	struct device dev;
	struct pci_dev *pdev;
	int ordinal;
};

static dev_t stub_first;
static struct class *stub_class;
static DEFINE_IDA(stub_ordinals);

static int stub_open(struct inode *inode, struct file *file)
{
	file->private_data = container_of(inode->i_cdev, struct stub_device, cdev);
	return 0;
}

static int stub_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct stub_device *stub = file->private_data;
	resource_size_t start = pci_resource_start(stub->pdev, 0);

	if (!start)
		return -ENODEV;
	return vm_iomap_memory(vma, start, pci_resource_len(stub->pdev, 0));
}

static const struct file_operations stub_fops = {
	.owner = THIS_MODULE,
	.open = stub_open,
	.mmap = stub_mmap,
};

static void stub_release(struct device *dev)
{
	struct stub_device *stub = container_of(dev, struct stub_device, dev);

	ida_free(&stub_ordinals, stub->ordinal);
	kfree(stub);
}

static int stub_add(struct pci_dev *pdev, int ordinal)
{
	struct stub_device *stub = kzalloc(sizeof(*stub), GFP_KERNEL);
	int error;

	if (!stub) {
		ida_free(&stub_ordinals, ordinal);
		return -ENOMEM;
	}
	stub->ordinal = ordinal;
	stub->pdev = pdev;
	device_initialize(&stub->dev);
	stub->dev.class = stub_class;
	stub->dev.parent = &pdev->dev;
	stub->dev.devt = MKDEV(MAJOR(stub_first), ordinal);
	stub->dev.release = stub_release;
	error = dev_set_name(&stub->dev, TENSTORRENT "!%d", ordinal);
	if (!error) {
		cdev_init(&stub->cdev, &stub_fops);
		stub->cdev.owner = THIS_MODULE;
		error = cdev_device_add(&stub->cdev, &stub->dev);
	}
	if (error) {
		put_device(&stub->dev);
		return error;
	}
	pci_set_drvdata(pdev, stub);
	return 0;
}

static int stub_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	int ordinal, error;

	error = pcim_enable_device(pdev);
	if (error)
		return error;
	ordinal = ida_alloc_max(&stub_ordinals, TENSTORRENT_MAX_DEVICES - 1, GFP_KERNEL);
	if (ordinal < 0)
		return ordinal;
	if (ordinal >= max_devices) {
		ida_free(&stub_ordinals, ordinal);
		return -ENODEV;
	}
	return stub_add(pdev, ordinal);
}

static void stub_remove(struct pci_dev *pdev)
{
	struct stub_device *stub = pci_get_drvdata(pdev);

	cdev_device_del(&stub->cdev, &stub->dev);
	put_device(&stub->dev);
}

static const struct pci_device_id stub_ids[] = {
	{ PCI_DEVICE(EDU_VENDOR_ID, EDU_DEVICE_ID) },
	{ },
};
MODULE_DEVICE_TABLE(pci, stub_ids);

static struct pci_driver stub_driver = {
	.name = TENSTORRENT,
	.id_table = stub_ids,
	.probe = stub_probe,
	.remove = stub_remove,
};

static struct class *stub_class_create(void)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 4, 0)
	return class_create(TENSTORRENT);
#else
	return class_create(THIS_MODULE, TENSTORRENT);
#endif
}

static int __init stub_init(void)
{
	int error = alloc_chrdev_region(&stub_first, 0, TENSTORRENT_MAX_DEVICES, TENSTORRENT);

	if (error)
		return error;
	stub_class = stub_class_create();
	if (IS_ERR(stub_class)) {
		error = PTR_ERR(stub_class);
		goto no_class;
	}
	error = pci_register_driver(&stub_driver);
	if (error)
		goto no_driver;
	pr_info("stub driver v%s loaded\n", TENSTORRENT_DRIVER_VERSION);
	return 0;

no_driver:
	class_destroy(stub_class);
no_class:
	unregister_chrdev_region(stub_first, TENSTORRENT_MAX_DEVICES);
	return error;
}

static void __exit stub_exit(void)
{
	pci_unregister_driver(&stub_driver);
	class_destroy(stub_class);
	unregister_chrdev_region(stub_first, TENSTORRENT_MAX_DEVICES);
	ida_destroy(&stub_ordinals);
}

module_init(stub_init);
module_exit(stub_exit);

MODULE_DESCRIPTION("Stand-in for the Tenstorrent driver, for tests");
MODULE_AUTHOR("ttfleet");
MODULE_VERSION(TENSTORRENT_DRIVER_VERSION);
MODULE_LICENSE("GPL");
