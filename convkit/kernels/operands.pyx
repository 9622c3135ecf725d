"""What calls and kernels ask of arrays: where they lie, how they are laid out, and whether such a call has been made.

Only this module knows NumPy's C interface: of a small call the questions, asked in Python, would take more time than
the answer.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.float cimport PyFloat_AS_DOUBLE
from cpython.long cimport PyLong_AsLongLongAndOverflow
from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_New
from cpython.ref cimport Py_INCREF, Py_XDECREF
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdint cimport int64_t
from libc.string cimport memcmp, memcpy

from convkit.kernels.runtime cimport LARGE_PAGE, large_pages

cdef extern from "base/spare.h":
    void ck_spare_limit(size_t nbytes)
    size_t ck_spare_kept()

# Bytes from which the memory of a result is kept: malloc keeps what is smaller (see `_keep_freed_memory` in runtime).
cdef enum:
    LARGE = 32 << 20

cdef extern from *:
    int PyContextVar_Get(object var, PyObject* default, PyObject** value) except -1

cdef extern from *:
    """
    #define NPY_NO_DEPRECATED_API NPY_1_7_API_VERSION
    #define NPY_TARGET_VERSION NPY_1_22_API_VERSION
    #include <numpy/arrayobject.h>
    #include "base/spare.h"

    /* NumPy's way to data of our own: arrays of it are as all others, theirs to free and to resize. */
    static void* ck_data_new(void* context, size_t bytes)
    {
        (void)context;
        return ck_spare_take(bytes);
    }

    static void* ck_data_zeros(void* context, size_t elements, size_t bytes)
    {
        void* data = bytes && elements > SIZE_MAX / bytes ? NULL : ck_spare_take(elements * bytes);
        (void)context;
        return data ? memset(data, 0, elements * bytes) : NULL;
    }

    static void ck_data_free(void* context, void* data, size_t bytes)
    {
        (void)context, (void)bytes;
        if (data) ck_spare_give(data);
    }

    static void* ck_data_resize(void* context, void* data, size_t bytes)
    {
        size_t room = data ? ck_spare_room(data) : 0;
        void* other = bytes <= room && bytes >= room / 2 ? data : ck_spare_take(bytes);
        if (data && other && other != data) {
            memcpy(other, data, bytes < room ? bytes : room);
            ck_data_free(context, data, room);
        }
        return other;
    }

    static PyDataMem_Handler ck_data_handler = {
        "convkit_spare", 1, {NULL, ck_data_new, ck_data_zeros, ck_data_resize, ck_data_free}};
    """
    ctypedef struct PyDataMem_Handler:
        pass
    PyDataMem_Handler ck_data_handler
    PyObject* PyDataMem_DefaultHandler
    object PyDataMem_GetHandler()
    object PyDataMem_SetHandler(handler)
    ptrdiff_t PyDataType_ELSIZE(const PyArray_Descr* dtype)
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


cdef PyArrayObject* array_of(a) except NULL:
    if not PyArray_Check(a):
        raise ValueError("the kernel was called for an operand that is no array")
    return <PyArrayObject*>a


cdef ptrdiff_t nbytes_of(a) except -1:
    """``a.nbytes``, without a number of Python's on the way."""
    return PyArray_NBYTES(array_of(a))


cdef ptrdiff_t length_of(a, int axis) except -1:
    """``a.shape[axis]``, likewise."""
    cdef PyArrayObject* array = array_of(a)
    if axis >= PyArray_NDIM(array):
        raise ValueError(f"the kernel was called for an operand of too few axes: {PyArray_NDIM(array)}")
    return PyArray_DIMS(array)[axis]


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
    """``np.empty(shape, dtype)`` for a native dtype, in half of its time; a large one in memory that another had."""
    cdef npy_intp sizes[64]
    cdef int axes = len(shape), i
    cdef double nbytes = PyDataType_ELSIZE(<PyArray_Descr*>dtype)
    if axes > 64:
        raise ValueError("an array has at most 64 axes")
    for i in range(axes):
        sizes[i] = shape[i]
        nbytes *= sizes[i]
    if nbytes < LARGE or _spare_limit == 0:
        return PyArray_SimpleNew(axes, sizes, (<PyArray_Descr*>dtype).type_num)
    handler = PyDataMem_GetHandler()
    if <PyObject*>handler != PyDataMem_DefaultHandler:  # the caller has set one
        return PyArray_SimpleNew(axes, sizes, (<PyArray_Descr*>dtype).type_num)
    PyDataMem_SetHandler(_handler)
    try:
        return PyArray_SimpleNew(axes, sizes, (<PyArray_Descr*>dtype).type_num)
    finally:
        PyDataMem_SetHandler(handler)


cdef object _handler = PyCapsule_New(&ck_data_handler, "mem_handler", NULL)
cdef size_t _spare_limit = 0


def spare_limit(size_t nbytes):
    """Keep at most so many bytes of large arrays that died; of 0, none is taken from there either."""
    global _spare_limit
    _spare_limit = nbytes
    ck_spare_limit(nbytes)


def spare_kept():
    """Bytes kept now."""
    return ck_spare_kept()


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
    ROOM = 128  # words; what does not fit is not remembered


cdef struct key_t:
    ptrdiff_t size
    int64_t words[ROOM]


cdef inline bint put(key_t* key, int64_t word) noexcept:
    if key.size == ROOM:
        return False
    key.words[key.size] = word
    key.size += 1
    return True


cdef bint put_text(key_t* key, const char* text, ptrdiff_t size) noexcept:
    cdef ptrdiff_t words = (size + 7) // 8
    if words > ROOM - key.size:
        return False
    if words:
        key.words[key.size + words - 1] = 0
        memcpy(&key.words[key.size], text, size)
    key.size += words
    return True


cdef inline int64_t word_of(char tag, int64_t what) noexcept:
    """A tag and up to 56 bits: what a key says of one object begins with one."""
    return tag | what << 8


cdef inline int64_t number_of(const PyArray_Descr* dtype) noexcept:
    """The number of a dtype that it says all of, or -1."""
    if (dtype.type_num > NPY_CLONGDOUBLE and dtype.type_num != NPY_HALF) or not PyArray_ISNBO(dtype.byteorder):
        return -1  # of a string, the number does not tell the length
    return dtype.type_num


cdef bint describe_array(key_t* key, const PyArrayObject* array, int flags) noexcept:
    cdef int64_t dtype = number_of(PyArray_DESCR(array)), axes = PyArray_NDIM(array), i
    if dtype < 0 or not put(key, word_of(b"a", axes | dtype << 8 | <int64_t>(flags & PyArray_FLAGS(array)) << 16)):
        return False
    for i in range(axes):
        if not put(key, PyArray_DIMS(array)[i]):
            return False
    return True


cdef bint describe(key_t* key, a, bint by_identity, int flags) except -1:
    """Add to the key all that a call can know of ``a`` without looking into it, of the flags of an array those given;
    False where it cannot be said.
    """
    cdef long long number
    cdef double real
    cdef Py_ssize_t size
    cdef const char* text
    cdef int overflow = 0
    cdef object kind = type(a)
    if PyArray_CheckExact(a):
        return describe_array(key, <PyArrayObject*>a, flags)
    if a is None or a is True or a is False:
        return put(key, word_of(b"n" if a is None else b"t" if a else b"f", 0))
    if kind is int:
        number = PyLong_AsLongLongAndOverflow(a, &overflow)
        return not overflow and put(key, word_of(b"i", 0)) and put(key, number)
    if kind is float:
        real = PyFloat_AS_DOUBLE(a)
        return put(key, word_of(b"d", 0)) and put_text(key, <const char*>&real, sizeof(real))
    if kind is str:
        try:
            text = PyUnicode_AsUTF8AndSize(a, &size)
        except UnicodeEncodeError:
            return False
        return put(key, word_of(b"s", size)) and put_text(key, text, size)
    if kind is tuple and not by_identity:
        if not put(key, word_of(b"(", len(a))):
            return False
        for each in <tuple>a:
            if not describe(key, each, by_identity, flags):
                return False
        return True
    if PyArray_DescrCheck(a):
        number = number_of(<PyArray_Descr*>a)
        return number >= 0 and put(key, word_of(b"D", number))
    return by_identity and put(key, word_of(b"o", 0)) and put(key, <int64_t><size_t><void*>a)


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
        key.size = 0
        if self.choice is not None:
            if now(self.record) is not None:
                return self.function(*arguments, **options)
            kept = now(self.choice)
            put(&key, <int64_t><size_t><void*>kept)
        for each in arguments:
            if not describe(&key, each, self.by_identity, self.flags):
                return self.function(*arguments, **options)
        if options:
            for each, value in options.items():
                if (not describe(&key, each, self.by_identity, self.flags)
                        or not describe(&key, value, self.by_identity, self.flags)):
                    return self.function(*arguments, **options)
        name = PyBytes_FromStringAndSize(<char*>key.words, 8 * key.size)
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
