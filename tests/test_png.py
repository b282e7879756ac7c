"""Images out of records: our own PNGs a block at a time, everything else one by one."""

import io
import struct
import tracemalloc
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from dmr_gluon.data import png
from dmr_gluon.data import recordio as form
from dmr_gluon.data.datasets import Split
from dmr_gluon.data.reader import RecordFile
from dmr_gluon.datasets.encoder import Encoding, Source, encode_all
from dmr_gluon.errors import DMRError
from dmr_gluon.runtime import mx

SIZES = [(1, 1), (1, 7), (9, 1), (32, 32), (17, 40), (64, 64)]


def picture(size, seed=0):
    """RGB; half of it smooth, half of it noise."""
    random = np.random.RandomState(seed)
    rows, columns = np.mgrid[0 : size[0], 0 : size[1]]
    smooth = np.stack([3 * rows, 2 * columns, rows + columns], axis=2)
    noise = random.randint(0, 256, smooth.shape)
    return np.where((columns % 8 < 4)[..., None], smooth + seed, noise).astype(np.uint8)


def by_opencv(encoded):
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    return cv2.imdecode(np.frombuffer(encoded, np.uint8), flags)[:, :, ::-1]


def part(kind, content):
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def filtered_png(image, filters, level=9):
    """A PNG whose rows have these filters, by turns; with ours alone, of our own form."""
    height, width = image.shape[:2]
    padded = np.zeros((height + 1, width + 1, 3), int)
    padded[1:, 1:] = image
    left, above, corner = padded[1:, :-1], padded[:-1, 1:], padded[:-1, :-1]
    distances = np.abs(np.stack([above - corner, left - corner, left + above - 2 * corner]))
    paeth = np.choose(distances.argmin(axis=0), [left, above, corner])
    predicted = [np.zeros_like(left), left, above, (left + above) // 2, paeth]
    rows = b""
    for row in range(height):
        kind = filters[row % len(filters)]
        rows += bytes([kind]) + ((image[row] - predicted[kind][row]) % 256).astype("u1").tobytes()
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = part(b"IDAT", zlib.compress(rows, level))
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + pixels + part(b"IEND", b"")


def jpeg(image, mode="RGB", **options):
    file = io.BytesIO()
    Image.fromarray(image).convert(mode).save(file, "JPEG", **options)
    return file.getvalue()


@pytest.fixture
def records_of(tmp_path):
    """Write encoded images as records labelled 0, 1, ... and open them."""

    def write(images):
        paths = [str(tmp_path / name) for name in ("a.rec", "a.idx")]
        with open(paths[0], "wb") as records, open(paths[1], "wb") as index:
            for number, image in enumerate(images):
                index.write(form.index_line(number, records.tell()))
                records.write(form.record(number, number, image))
        return RecordFile(Split(*paths, len(images), per_class=(), sha256=""))

    return write


class TestEncoding:
    @pytest.mark.parametrize("size", SIZES)
    def test_opencv_pillow_and_we_read_the_same_pixels(self, size, records_of):
        image = picture(size)
        encoded = png.encode(image)
        assert (by_opencv(encoded) == image).all()
        with Image.open(io.BytesIO(encoded)) as theirs:
            assert theirs.mode == "RGB" and (np.asarray(theirs) == image).all()
        with records_of([encoded]) as records:
            assert (records.images([0])[0][0] == image).all()

    def test_mxnet_reads_the_same_pixels(self, records_of):
        images = [picture((32, 32), seed) for seed in range(4)]
        with records_of([png.encode(image) for image in images]) as records:
            iterator = mx.io.ImageRecordIter(
                path_imgrec=records.paths[0], data_shape=(3, 32, 32), batch_size=4
            )
            found = next(iterator).data[0].asnumpy()
        assert (found == np.stack(images).transpose(0, 3, 1, 2)).all()

    def test_small_images_are_prepared_so_and_large_ones_by_opencv(self):
        for size, ours in (((32, 32), True), ((64, 64), True), ((64, 65), False)):
            image = picture(size)
            source = Source("a", 0, lambda image=image: image)
            encoded = next(encode_all([source], Encoding(), "train")).data
            assert (encoded == png.encode(image)) == ours
            assert (by_opencv(encoded) == image).all()


class TestReading:
    @pytest.mark.parametrize("filters", [[0], [1], [2], [3], [4], [0, 1, 2, 3, 4], [2, 2, 4]])
    @pytest.mark.parametrize("size", SIZES)
    def test_every_filter_gives_the_same_pixels(self, filters, size, records_of):
        images = [picture(size, seed) for seed in range(3)]
        with records_of([filtered_png(image, filters) for image in images]) as records:
            found, labels = records.images([2, 0, 1])
        assert labels == [2, 0, 1]
        assert all((found[i] == images[number]).all() for i, number in enumerate(labels))

    def test_a_set_prepared_before_is_read_as_ever(self, records_of):
        images = [picture((32, 32), seed) for seed in range(3)]
        options = [cv2.IMWRITE_PNG_COMPRESSION, 9]
        encoded = [cv2.imencode(".png", image[:, :, ::-1], options)[1] for image in images]
        with records_of([one.tobytes() for one in encoded]) as records:
            assert (np.stack(records.images([0, 1, 2])[0]) == images).all()

    def test_only_our_form_is_decoded_in_blocks(self):
        image = picture((8, 8))
        assert filtered_png(image, [0], level=0) == png.encode(image)
        others = [
            filtered_png(image, [1], 0),
            filtered_png(image, [0, 2], 0),
            jpeg(image),
            b"",
            b"\x89",
        ]
        whole, large = png.encode(image), png.encode(picture((65, 64)))
        others += [whole[:-1], whole[:-1] + b"\0", whole + b"\0", large]
        assert all(png.rows_of(other) == (None, None) for other in others)
        assert png.rows_of(png.encode(image))[0] == (8, 8)

    def test_what_inflates_without_end_is_not_inflated(self):
        image = picture((8, 8))
        whole = png.encode(image)
        begin = whole.index(b"IDAT") - 4
        rows = zlib.compress(bytes(50 << 20), 1)
        assert rows[:2] == whole[begin + 8 : begin + 10]  # so far it is of our form
        tracemalloc.start()
        try:
            bomb = whole[:begin] + part(b"IDAT", rows) + part(b"IEND", b"")
            assert png.rows_of(bomb) == (None, None)
            assert tracemalloc.get_traced_memory()[1] < 1 << 20
        finally:
            tracemalloc.stop()
        # Nor is what ends without zlib's checksum of the rows taken.
        rows = zlib.compress(png.rows_of(whole)[1], 0)[:-4]
        cut = whole[:begin] + part(b"IDAT", rows) + part(b"IEND", b"")
        assert png.rows_of(cut) == (None, None)

    def test_images_of_all_kinds_and_sizes_in_one_block(self, records_of):
        encoded, expected = [], []
        for seed in range(12):
            image = picture([(32, 32), (16, 24)][seed % 2], seed)
            kinds = [png.encode(image), filtered_png(image, [4]), jpeg(image)]
            encoded.append(kinds[seed % 3])
            expected.append(by_opencv(encoded[-1]))
        with records_of(encoded) as records:
            order = [7, 1, 0, 11, 4, 2, 2, 9, 6]
            found, labels = records.images(order)
            assert labels == order
            assert all((image == expected[n]).all() for image, n in zip(found, order))
            assert records.images([])[1] == []

    @pytest.mark.parametrize(
        "mode, options",
        [
            *(("RGB", {"subsampling": kind}) for kind in (0, 1, 2)),
            ("RGB", {"progressive": True}),
            ("RGB", {"quality": 15}),
            (
                "RGB",
                {
                    "exif": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0"
                    + bytes(4)
                },
            ),
            ("L", {}),
            ("CMYK", {}),
        ],
    )
    def test_jpegs_have_opencvs_pixels(self, mode, options, records_of):
        encoded = jpeg(picture((61, 83)), mode, **options)
        with records_of([encoded]) as records:
            (image,), _ = records.images([0])
        assert image.shape == (61, 83, 3) and (image == by_opencv(encoded)).all()

    def test_a_jpeg_with_bytes_between_its_parts_is_still_read(self, records_of, capfd):
        encoded = jpeg(picture((61, 83)))
        encoded = encoded[:-2] + b"\0\0\0" + encoded[-2:]
        with records_of([encoded]) as records:
            assert (records.images([0])[0][0] == by_opencv(encoded)).all()


class TestDamage:
    def test_no_damaged_byte_of_a_png_changes_a_pixel_unseen(self, records_of, capfd):
        image = picture((8, 8))
        encoded, refused = png.encode(image), []
        damaged = []
        for at in range(len(encoded)):
            for bit in (0, 3, 7):
                damaged.append(bytearray(encoded))
                damaged[-1][at] ^= 1 << bit
        with records_of([bytes(one) for one in damaged]) as records:
            for number in range(len(damaged)):
                try:
                    assert (records.images([number])[0][0] == image).all()
                except DMRError as error:
                    assert f"record {number} cannot be read" in str(error)
                    refused.append(number // 3)
        assert set(range(len(encoded) - 16)) <= set(refused)  # all but a checksum and the end

    @pytest.mark.parametrize("encode", [png.encode, jpeg])
    def test_the_damaged_one_of_a_block_is_named(self, encode, records_of, capfd):
        images = [encode(picture((32, 32), seed)) for seed in range(5)]
        for broken in (images[3][:20], images[3][:2] + bytes(200), b"", b"no image"):
            with records_of([*images[:3], broken, images[4]]) as records:
                with pytest.raises(DMRError, match="record 3 cannot be read.*prepare the data set"):
                    records.images([0, 4, 3, 1])
                assert records.images([4, 0])[1] == [4, 0]

    def test_a_record_that_is_not_there_is_named(self, records_of):
        records = records_of([png.encode(picture((8, 8)))])
        with records, pytest.raises(DMRError, match="record 1 cannot be read"):
            records.images([0, 1])
