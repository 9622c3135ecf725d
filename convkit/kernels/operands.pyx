"""What calls and kernels ask of arrays: where they lie, how they are laid out, and whether such a call has been made.

Only this module knows NumPy's C interface: of a small call the questions, asked in Python, would take more time than
the answer.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.float cimport PyFloat_AS_DOUBLE
from cpython.long cimport PyLong_AsLongLongAndOverflow
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.string cimport memcmp, memcpy

from convkit.kernels.runtime cimport LARGE_PAGE, large_pages

cdef extern from *:
    int PyContextVar_Get(object var, PyObject* default, PyObject** value) except -1

cdef extern from *:
    """
    #define NPY_NO_DEPRECATED_API NPY_1_7_API_VERSION
    #include <numpy/arrayobject.h>
    """
    ctypedef ptrdiff_t npy_intp
    ctypedef struct PyArrayObject:
        pass
    ctypedef struct PyArray_Descr:
        int type_num
        char byteorder
    int _import_array() except -1
    bint PyArray_Check(a)
    bint PyArray_CheckExact(a)
    bint PyArray_DescrCheck(a)
    bint PyArray_ISNBO(char order)
    bint PyArray_CHKFLAGS(const PyArrayObject* a, int flags)
    int PyArray_FLAGS(const PyArrayObject* a)
    int PyArray_NDIM(const PyArrayObject* a)
    npy_intp* PyArray_DIMS(const PyArrayObject* a)
    npy_intp PyArray_NBYTES(const PyArrayObject* a)
    void* PyArray_DATA(const PyArrayObject* a)
    PyArray_Descr* PyArray_DESCR(const PyArrayObject* a)
    object PyArray_SimpleNew(int axes, npy_intp* shape, int type)
    object PyArray_SimpleNewFromData(int axes, npy_intp* shape, int type, void* data)
    int PyArray_SetBaseObject(PyArrayObject* a, base) except -1
    int NPY_ARRAY_C_CONTIGUOUS, NPY_ARRAY_ALIGNED, NPY_ARRAY_WRITEABLE, NPY_UINT8, NPY_HALF, NPY_CLONGDOUBLE

_import_array()

from numpy import may_share_memory  # noqa: E402 - only once its C interface is there


cdef void* memory(a, bint writes, ptrdiff_t nbytes) except? NULL:
    cdef PyArrayObject* array = <PyArrayObject*>a
    if a is None:
        return NULL
    if not PyArray_Check(a) or not PyArray_CHKFLAGS(array, NPY_ARRAY_C_CONTIGUOUS):
        raise ValueError("the kernel was called for an operand that is no C-contiguous array")
    cdef ptrdiff_t length = PyArray_NBYTES(array)
    if length != nbytes:
        raise ValueError(f"the kernel was called for an operand of {nbytes} bytes and got {length}")
    if writes and not PyArray_CHKFLAGS(array, NPY_ARRAY_WRITEABLE):
        raise ValueError("the kernel was called to write into a read-only array")
    return PyArray_DATA(array)


def aligned_empty(ptrdiff_t elements, dtype):
    """An uninitialised flat array on a 64-byte boundary: a vector load of it never straddles two cache lines.
    A long one has large pages.
    """
    cdef npy_intp size = elements * dtype.itemsize
    cdef npy_intp page = LARGE_PAGE, boundary = page if size >= page // 2 else 64
    cdef npy_intp room = size + 2 * boundary  # the last large page ends inside it
    base = PyArray_SimpleNew(1, &room, NPY_UINT8)
    cdef char* data = <char*>PyArray_DATA(<PyArrayObject*>base)
    data += (boundary - <size_t>data % boundary) % boundary
    if boundary > 64:
        large_pages(data, (size + boundary - 1) // boundary * boundary)
    array = PyArray_SimpleNewFromData(1, &elements, dtype.num, data)
    Py_INCREF(base)  # which the array takes for its own
    PyArray_SetBaseObject(<PyArrayObject*>array, base)
    return array


def empty(tuple shape, dtype):
    """``np.empty(shape, dtype)`` for a native dtype, in half of its time."""
    cdef npy_intp sizes[64]
    cdef int axes = len(shape), i
    if axes > 64:
        raise ValueError("an array has at most 64 axes")
    for i in range(axes):
        sizes[i] = shape[i]
    return PyArray_SimpleNew(axes, sizes, (<PyArray_Descr*>dtype).type_num)


def plain(a, dtype):
    """Whether ``a`` is an array as kernels want it: C-contiguous, aligned, of this native dtype, and no subclass."""
    cdef const PyArrayObject* array = <const PyArrayObject*>a
    return (PyArray_CheckExact(a) and PyArray_CHKFLAGS(array, NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_ALIGNED)
            and <const void*>PyArray_DESCR(array) == <const void*>dtype)


def apart(a, b):
    """Whether two arrays share no memory."""
    cdef const PyArrayObject* one = <const PyArrayObject*>a
    cdef const PyArrayObject* other = <const PyArrayObject*>b
    if not PyArray_CHKFLAGS(one, NPY_ARRAY_C_CONTIGUOUS) or not PyArray_CHKFLAGS(other, NPY_ARRAY_C_CONTIGUOUS):
        return not may_share_memory(a, b)
    cdef char* first = <char*>PyArray_DATA(one)
    cdef char* second = <char*>PyArray_DATA(other)
    return first + PyArray_NBYTES(one) <= second or second + PyArray_NBYTES(other) <= first


def holds(tuple kept, tuple arrays):
    """Whether ``arrays`` hold the bytes ``kept``, in the order of their elements; None for None."""
    cdef Py_ssize_t i
    cdef PyArrayObject* array
    if len(kept) != len(arrays):
        return False
    for i in range(len(kept)):
        if kept[i] is None or arrays[i] is None:
            if kept[i] is not arrays[i]:
                return False
            continue
        array = <PyArrayObject*>arrays[i]
        if not PyArray_CHKFLAGS(array, NPY_ARRAY_C_CONTIGUOUS):
            if kept[i] != arrays[i].tobytes():
                return False
        elif (PyArray_NBYTES(array) != len(<bytes>kept[i])
              or memcmp(PyArray_DATA(array), <const char*><bytes>kept[i], PyArray_NBYTES(array)) != 0):
            return False
    return True


cdef enum:
    ROOM = 1024  # bytes; what does not fit is not remembered


cdef struct key_t:
    ptrdiff_t size
    char bytes[ROOM]


cdef inline bint put(key_t* key, const void* data, ptrdiff_t size) noexcept:
    if size > <ptrdiff_t>ROOM - key.size:
        return False
    if size:  # an array without axes has no pointer to its shape
        memcpy(key.bytes + key.size, data, size)
    key.size += size
    return True


cdef bint describe_dtype(key_t* key, const PyArray_Descr* dtype) noexcept:
    cdef char tag[2]
    if (dtype.type_num > NPY_CLONGDOUBLE and dtype.type_num != NPY_HALF) or not PyArray_ISNBO(dtype.byteorder):
        return False  # of a string, the number does not tell the length
    tag[0], tag[1] = b"D", <char>dtype.type_num
    return put(key, tag, 2)


cdef bint describe(key_t* key, a, bint by_identity, int flags) except -1:
    """Add to the key all that a call can know of ``a`` without looking into it, of the flags of an array those given;
    False where it cannot be said.
    """
    cdef long long number
    cdef double real
    cdef Py_ssize_t size
    cdef const char* text
    cdef int overflow = 0
    cdef char tag[2]
    cdef PyArrayObject* array
    cdef object kind = type(a)
    if PyArray_CheckExact(a):
        array = <PyArrayObject*>a
        tag[0], tag[1] = b"a", <char>PyArray_NDIM(array)
        flags &= PyArray_FLAGS(array)
        return (put(key, tag, 2) and put(key, &flags, sizeof(flags))
                and put(key, PyArray_DIMS(array), PyArray_NDIM(array) * <ptrdiff_t>sizeof(npy_intp))
                and describe_dtype(key, PyArray_DESCR(array)))
    if a is None or a is True or a is False:
        tag[0] = b"n" if a is None else b"t" if a else b"f"
        return put(key, tag, 1)
    if kind is int:
        number = PyLong_AsLongLongAndOverflow(a, &overflow)
        return not overflow and put(key, b"i", 1) and put(key, &number, sizeof(number))
    if kind is float:
        real = PyFloat_AS_DOUBLE(a)
        return put(key, b"d", 1) and put(key, &real, sizeof(real))
    if kind is str:
        try:
            text = PyUnicode_AsUTF8AndSize(a, &size)
        except UnicodeEncodeError:
            return False
        return put(key, b"s", 1) and put(key, &size, sizeof(size)) and put(key, text, size)
    if kind is tuple and not by_identity:
        size = len(a)
        if not put(key, b"(", 1) or not put(key, &size, sizeof(size)):
            return False
        for each in <tuple>a:
            if not describe(key, each, by_identity, flags):
                return False
        return True
    if PyArray_DescrCheck(a):
        return describe_dtype(key, <PyArray_Descr*>a)
    number = <long long><size_t><void*>a
    return by_identity and put(key, b"o", 1) and put(key, &number, sizeof(number))


cdef now(variable):
    """What a ContextVar holds, or None."""
    cdef PyObject* held = NULL
    PyContextVar_Get(variable, NULL, &held)
    if held == NULL:
        return None
    value = <object>held
    Py_XDECREF(held)
    return value


cdef class Remembered:
    """``function``, asked once for each kind of call: see ``convkit.plan.calls``."""

    cdef object function, choice, record
    cdef bint by_identity
    cdef int flags
    cdef ptrdiff_t most
    cdef dict known
    cdef object __weakref__

    def __init__(self, function, bint by_identity, ptrdiff_t most, choice=None, record=None):
        self.function = function
        self.by_identity, self.most = by_identity, most
        self.choice, self.record = choice, record
        self.flags = NPY_ARRAY_WRITEABLE
        if choice is not None:
            self.flags |= NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_ALIGNED
        self.known = {}

    def __call__(self, *arguments, **options):
        cdef key_t key
        cdef dict known = self.known  # what `clear` puts aside meanwhile is not added to
        cdef object kept = arguments if self.by_identity else None
        cdef void* address
        key.size = 0
        if self.choice is not None:
            if now(self.record) is not None:
                return self.function(*arguments, **options)
            kept = now(self.choice)
            address = <void*>kept
            put(&key, &address, sizeof(address))
        for each in arguments:
            if not describe(&key, each, self.by_identity, self.flags):
                return self.function(*arguments, **options)
        if options:
            for each, value in options.items():
                if (not describe(&key, each, self.by_identity, self.flags)
                        or not describe(&key, value, self.by_identity, self.flags)):
                    return self.function(*arguments, **options)
        name = PyBytes_FromStringAndSize(key.bytes, key.size)
        found = known.get(name)
        if found is None:
            found = self.function(*arguments, **options), kept  # an address stands for an object as long as that lives
            while len(known) >= self.most:
                known.pop(next(iter(known)), None)
            known[name] = found
        return (<tuple>found)[0]

    def clear(self):
        """Forget every call."""
        self.known = {}
