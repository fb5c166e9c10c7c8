"""A disk that records each write and flush: one file of a FUSE file system, under a loop device.

The server speaks the kernel's FUSE protocol (linux/fuse.h, 7.31) on /dev/fuse in a thread of this
process; it needs root and no library. The kernel has no write-back cache for the file: a block
write reaches the server before it completes, and a block flush becomes FSYNC.
"""

import contextlib
import errno
import fcntl
import mmap
import os
import struct
import threading
import time

from .campaign import MissingError, mounted

_LOOKUP, _GETATTR, _OPEN, _READ, _WRITE, _STATFS, _RELEASE, _FSYNC = 1, 3, 14, 15, 16, 17, 18, 20
_FLUSH, _INIT, _FORGET, _BATCH_FORGET, _INTERRUPT, _ACCESS, _SETATTR = 25, 26, 2, 42, 36, 34, 4
_IN = struct.Struct("<IIQQIIIHH")  # len, opcode, unique, nodeid, uid, gid, pid, extra, padding
_OUT = struct.Struct("<IiQ")
_ROOT, _DISK = 1, 2
_MAX_WRITE = 128 << 10
_LOOP_CONFIGURE, _LOOP_CTL_GET_FREE = 0x4C0A, 0x4C82
_LOOP_CONFIG = struct.Struct("<II52xI244x")  # file, block size, flags, as in linux/loop.h
_AUTOCLEAR = 4  # detached by the last close, also if this process is killed
FLUSH = -1  # offset of a record that is a flush


class RecordingDisk:
    """The server: `content` is the disk now, `records` are (offset, bytes), in order."""

    def __init__(self, content):
        self.content = bytearray(content)
        self.records = []
        self._count = mmap.mmap(-1, 8)  # shared with forked children
        try:
            self._device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise MissingError(f"no FUSE: {error}") from None

    def clock(self):
        """Return the number of records; also in children."""
        return struct.unpack("<Q", self._count[:8])[0]

    def forget_in_child(self):
        """Close the child's copy, so that the mount ends with the server's process."""
        os.close(self._device)

    @contextlib.contextmanager
    def serve(self, folder):
        """Mount in the folder and serve; yield the path of the disk."""
        options = f"fd={self._device},rootmode=40000,user_id=0,group_id=0"
        thread = threading.Thread(target=self._serve, daemon=True)
        try:
            with mounted("torture", folder, "fuse", options):
                thread.start()
                yield os.path.join(folder, "disk")
        finally:
            os.close(self._device)

    def _serve(self):
        while True:
            try:
                request = os.read(self._device, _MAX_WRITE + 4096)
            except OSError as error:
                if error.errno in (errno.EINTR, errno.ENOENT, errno.EAGAIN):
                    continue
                return  # unmounted
            _, opcode, unique, node, *_ = _IN.unpack_from(request)
            answer = self._answer(opcode, node, request[_IN.size :])
            if answer is None:
                continue
            code, body = (-answer, b"") if isinstance(answer, int) else (0, answer)
            with contextlib.suppress(OSError):  # the request was interrupted
                os.write(self._device, _OUT.pack(_OUT.size + len(body), code, unique) + body)

    def _answer(self, opcode, node, body):
        """Return the body of the answer, an errno, or None for no answer."""
        if opcode == _WRITE:
            _, offset, size = struct.unpack_from("<QQI", body)
            data = body[40 : 40 + size]
            self.content[offset : offset + size] = data
            self._record(offset, data)
            return struct.pack("<II", size, 0)
        if opcode == _READ:
            _, offset, size = struct.unpack_from("<QQI", body)
            return bytes(self.content[offset : offset + size])
        if opcode == _FSYNC:
            self._record(FLUSH, b"")
            return b""
        if opcode == _INIT:
            limits = struct.pack(
                "<IIIIHHIIHHI28x", 7, 31, 1 << 17, 0, 16, 12, _MAX_WRITE, 1, 32, 0, 0
            )
            return limits
        if opcode in (_GETATTR, _SETATTR):
            return struct.pack("<QII", 3600, 0, 0) + self._attributes(node)
        if opcode == _LOOKUP:
            if body.rstrip(b"\0") != b"disk":
                return errno.ENOENT
            return struct.pack("<QQQQII", _DISK, 0, 3600, 3600, 0, 0) + self._attributes(_DISK)
        if opcode == _OPEN:
            return struct.pack("<QII", 1, 0, 0)
        if opcode == _STATFS:
            return bytes(80)
        if opcode in (_RELEASE, _FLUSH, _ACCESS):
            return b""
        return None if opcode in (_FORGET, _BATCH_FORGET, _INTERRUPT) else errno.ENOSYS

    def _record(self, offset, data):
        self.records.append((offset, data))
        self._count[:8] = struct.pack("<Q", len(self.records))

    def _attributes(self, node):
        mode, size = (0o40700, 0) if node == _ROOT else (0o100600, len(self.content))
        times, links, block = [0] * 6, 1, 4096
        numbers = (node, size, size // 512, *times, mode, links, 0, 0, 0, block, 0)
        return struct.pack("<6Q10I", *numbers)


@contextlib.contextmanager
def loop_device(path):
    """Attach a file to a free loop device; yield the device's path."""
    try:
        control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise MissingError(f"no loop devices: {error}") from None
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        for attempt in range(50):
            number = fcntl.ioctl(control, _LOOP_CTL_GET_FREE)
            try:
                device = os.open(f"/dev/loop{number}", os.O_RDWR | os.O_CLOEXEC)
                fcntl.ioctl(device, _LOOP_CONFIGURE, _LOOP_CONFIG.pack(file, 0, _AUTOCLEAR))
                break
            except OSError as error:  # another process took it
                if error.errno != errno.EBUSY or attempt == 49:
                    raise MissingError(f"no loop device: {error}") from None
                time.sleep(0.01)
    finally:
        os.close(file)
        os.close(control)
    try:
        yield f"/dev/loop{number}"
    finally:
        os.close(device)
