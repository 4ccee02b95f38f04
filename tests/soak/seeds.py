"""Small valid inputs of every format, from which fuzzers start, and fragments that have upset readers before."""

from __future__ import annotations

from pathlib import Path

from PIL import Image


def xml(*items: str) -> bytes:
    body = "\n".join(f"<Item {item} />" for item in items)
    return f'<?xml version="1.0" encoding="gb2312"?>\n<T><Items number="-">\n{body}\n</Items></T>\n'.encode("gb2312")


VERI = ("0002_c002_00030600_0.jpg", "0002_c003_00030605_1.jpg", "0005_c004_00002000_0.jpg")
SYNTHETIC = ("00001_c001_33.jpg", "00001_c002_4.jpg", "01362_c019_1.jpg")
WORLDS: dict[str, tuple[dict[str, bytes], tuple[str, ...]]] = {
    "cityflow": (
        {
            "train_label.xml": xml(
                'imageName="000001.jpg" vehicleID="0241" cameraID="c001"',
                'imageName="000002.jpg" vehicleID="-1" cameraID="c001"',
            ),
            "query_label.xml": xml('imageName="000001.jpg" cameraID="c041"'),
            "test_label.xml": xml('imageName="000002.jpg" cameraID="c042"', 'imageName="000001.jpg" cameraID="c042"'),
            "test_track.txt": b"000001.jpg \n000002.jpg \n",
            "test_track_id.txt": b"1 \n\n2\n",
            "simulator.json": b'{"seed": 1, "preset": {"name": "tiny"}}',
            "ground_truth.csv": b"image_key,path,identity,camera,time,x1,y1,x2,y2\n"
            b"test/000001,x.jpg,5,c042,7,1,2,3,4\n",
        },
        (
            "image_train/000001.jpg",
            "image_train/000002.jpg",
            "image_query/000001.jpg",
            "image_test/000001.jpg",
            "image_test/000002.jpg",
        ),
    ),
    "cityflow2020": (
        {
            "train_label.xml": xml('imageName="000001.jpg" vehicleID="0241" cameraID="c001"'),
            "name_query.txt": b"000001.jpg\r\n",
            "name_test.txt": b"000001.jpg\n000002.jpg\n",
            "train_track_id.txt": b"1\n",
            "test_track_id.txt": b"2 1 \n",
        },
        ("image_train/000001.jpg", "image_query/000001.jpg", "image_test/000001.jpg", "image_test/000002.jpg"),
    ),
    "veri": (
        {
            **{f"name_{name}.txt": "\n".join(VERI).encode() for name in ("train", "query", "test")},
            "test_label.xml": xml(
                *(f'imageName="{name}" vehicleID="0002" cameraID="c002" colorID="4" typeID="2"' for name in VERI)
            ),
            "gt_index.txt": b"2 \n1 \n\n",
            "jk_index.txt": b"1 \n2 \n3 \n",
            "test_track.txt": f"0002_c002_t0001 {VERI[0]} \n0002_c003_t0002 {VERI[1]} \n".encode(),
            "list_color.txt": b"1 yellow\n2 orange\n",
            "list_type.txt": b"1 sedan\n",
            "keypoint_train.txt": f"a/{VERI[0]} 1 2 -1 -1 3\n{VERI[1]} 1 2 0\n".encode(),
        },
        tuple(f"image_{name}/{picture}" for name in ("train", "query", "test") for picture in VERI),
    ),
    "vehiclex": (
        {
            "train_label.xml": xml(
                *(
                    f'typeID="{k}" imageName="{name}" cameraID="c001" vehicleID="0001" colorID="{k + 3}" '
                    f'orientation="36{k}.0" lightInt="1.2"'
                    for k, name in enumerate(SYNTHETIC)
                )
            )
        },
        tuple(f"sys_image_train/{name}" for name in SYNTHETIC),
    ),
    "vehicleid": (
        {
            "train_test_split/train_list.txt": b"0000010 1\n0000002 1\n",
            "train_test_split/test_list_800.txt": b"0000010 5\n",
        },
        ("image/0000010.jpg", "image/0000002.jpg"),
    ),
    "veri_wild": (
        {
            "train_test_split/train_list.txt": b"00001/000001.jpg\n",
            "train_test_split/test_3000.txt": b"00009/000010\n",
            "train_test_split/test_3000_query.txt": b"00009/000011\n",
            "train_test_split/vehicle_info.txt": b"id/image;Camera ID;Time;Model;Type;Color\n00001/000001;7;2018-03-11 "
            b"11:29:53;x;SUV;red\n00009/000010;c8;5;x;SUV;\n00009/000011;9\n",
        },
        ("images/00001/000001.jpg", "images/00009/000010.jpg", "images/00009/000011.jpg"),
    ),
    "vric": (
        {
            "vric_train.txt": b"1.jpg 4 1\n2.jpg 4 33\n",
            "vric_probe.txt": b"1.jpg 1 2\n",
            "vric_gallery.txt": b"2 1 5\n",
        },
        ("train_images/1.jpg", "train_images/2.jpg", "probe_images/1.jpg", "gallery_images/2.jpg"),
    ),
    "tracker": (
        {
            "c001/gt/gt.txt": b"1,7,1,1,3,2,1,-1,-1,-1\n2,7,1.5,0,3,2,0,-1,-1,-1\n",
            "c002/c002.txt": b"1 -1 0 0 2 2 0.93\n",
        },
        ("c001/img1/000001.jpg", "c001/img1/000002.jpg", "c002/img1/000001.jpg"),
    ),
    "kitti": (
        {
            "S01/c001/c001.txt": b"0 7 Car 0 0 -1.5 1 1 4 3 1 1 1 1 1 1 1\n"
            b"1 7 Van 0 0 -1.5 1 1 4 3 1 1 1 1 1 1 1 0.9\n",
            "S01/c002/det/det.txt": b"1,-1,0,0,2,2,0.93\n",
        },
        ("S01/c001/img1/000000.jpg", "S01/c001/img1/000001.jpg", "S01/c002/img1/frame_0001.jpg"),
    ),
    "ai_city": (
        {"ground_truth_train.txt": b"1 7 1 1 1 3 2 -1 -1\n1 8 2 1 1 3 2 -1 -1\n2 7 1 0 0 2 2 -1 -1\n"},
        ("S01/c001/img1/000001.jpg", "S01/c001/img1/000002.jpg", "S01/c002/img1/000001.jpg"),
    ),
    "yolo": (
        {
            "labels/cam1_1.txt": b"2 0.5 0.5 0.5 0.5 0.9 7\n7 0.2 0.2 0.2 0.2 0.8 8\n",
            "labels/cam2_1.txt": b"2 0.5 0.5 0.5 0.5\n",
        },
        ("images/cam1_1.jpg", "images/cam2_1.jpg"),
    ),
    "table": (
        {
            "images.csv": b"path,identity,camera,time,x1,y1,x2,y2,orientation,frame,split,variant\n"
            b'1.jpg,7,c1,2020-01-01,1,2,3,4,90,5,train,\n2.jpg,-1,"c,2",9.5,,,,,,,query,crop\n'
        },
        ("1.jpg", "2.jpg"),
    ),
}

ODD_BYTES = [
    b"<",
    b">",
    b'"',
    b"'",
    b"&#0;",
    b"&#10;",
    b"&x;",
    b"<?xml",
    b"<!DOCTYPE a>",
    b"<Item/>",
    b"<!--",
    b"]]>",
    b"\x00",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\xb0\xd7",
    b"\xed\xa0\x80",
    b"\xe2\x80\xa8",
    b"\xc2\x85",
    b"\x1b[31m",
    b"\n",
    b"\r",
    b"\r\n",
    b"\t",
    b" ",
    b",",
    b";",
    b"/",
    b"\\",
    b"..",
    b"-1",
    b"0",
    b"1e999",
    b"-1e308",
    b"nan",
    b"1" * 400,
    b"99999999999999999999",
    b"c99",
    b"junk",
    b"0001_c001_00000001_0.jpg",
    b"\xd9\xa3",
    b"A" * 140_000,
]

ODD_NUMBERS = [b"-1", b"0", b"1e999", b"nan", b"-0.5", b"9" * 30, b"9" * 5000, b"", b"x", b"1_0", b"\xd9\xa3"]


def write_world(name: str, folder: Path) -> Path:
    """The folder of a data set of `WORLDS`, with images of 6 x 4 pixels."""
    files, images = WORLDS[name]
    for file in (*files, *images):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
    for file, data in files.items():
        (folder / file).write_bytes(data)
    for file in images:
        Image.new("RGB", (6, 4)).save(folder / file)
    return folder
