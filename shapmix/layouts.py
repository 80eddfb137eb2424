"""The tables of the known skeleton layouts, as text that shapmix.skeleton reads.

Names of joints are those of the source, with left_ and right_ in front, so that the pairs to exchange in a mirrored
picture follow from them. In the face of coco133, which its source only numbers, the names say where a joint lies.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Table(NamedTuple):
    """A layout as text, separated by blanks.

    Attributes:
        joints: the V names.
        bones: chains of joint numbers that lead towards the centre, 7-6-5: bones (7, 6) and (6, 5).
        parts: part name -> joint numbers; 23-90 are all from 23 to 90.
        edges: chains of the graph, for the joints whose neighbour there is another than in the bones.
    """

    joints: str
    bones: str
    parts: Mapping[str, str]
    edges: str = ""


# Part 1 of ntu25 is the person's right arm (the official Shap-Mix code calls it the left hand; the numbers agree).
TABLES: Mapping[str, Table] = {
    "ntu25": Table(  # Kinect v2: NTU RGB+D
        joints="spine_base spine_mid neck head left_shoulder left_elbow left_wrist left_hand right_shoulder "
        "right_elbow right_wrist right_hand left_hip left_knee left_ankle left_foot right_hip right_knee "
        "right_ankle right_foot spine_shoulder left_hand_tip left_thumb right_hand_tip right_thumb",
        bones="15-14-13-12-0-1-20 19-18-17-16-0 3-2-20 21-22-7-6-5-4-20 23-24-11-10-9-8-20",
        parts={
            "trunk": "0 1 2 3 20",
            "right_arm": "8 9 10 11 23 24",
            "left_arm": "4 5 6 7 21 22",
            "right_leg": "16 17 18 19",
            "left_leg": "12 13 14 15",
        },
    ),
    "ucla20": Table(  # Kinect v1: NW-UCLA
        joints="hip_center spine neck head left_shoulder left_elbow left_wrist left_hand right_shoulder "
        "right_elbow right_wrist right_hand left_hip left_knee left_ankle left_foot right_hip right_knee "
        "right_ankle right_foot",
        bones="15-14-13-12-0-1-2 19-18-17-16-0 3-2 7-6-5-4-2 11-10-9-8-2",
        parts={
            "trunk": "0-3",
            "left_arm": "4-7",
            "right_arm": "8-11",
            "left_leg": "12-15",
            "right_leg": "16-19",
        },
    ),
    "coco17": Table(  # COCO's key points: HRNet, ViTPose, YOLO and others
        joints="nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow "
        "left_wrist right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle",
        bones="15-13-11-0 16-14-12-0 9-7-5-0 10-8-6-0 3-1-0 4-2-0",
        parts={
            "head": "0-4",
            "left_arm": "5 7 9",
            "right_arm": "6 8 10",
            "left_leg": "11 13 15",
            "right_leg": "12 14 16",
        },
        edges="11-5 12-6",
    ),
    "h36m17": Table(  # Human3.6M as 3D pose lifters give it: VideoPose3D, MotionBERT and others
        joints="hip right_hip right_knee right_foot left_hip left_knee left_foot spine thorax nose head left_shoulder "
        "left_elbow left_wrist right_shoulder right_elbow right_wrist",
        bones="3-2-1-0-7-8 6-5-4-0 10-9-8 13-12-11-8 16-15-14-8",
        parts={
            "trunk": "0 7-10",
            "left_arm": "11-13",
            "right_arm": "14-16",
            "left_leg": "4-6",
            "right_leg": "1-3",
        },
    ),
    "openpose18": Table(  # OpenPose's COCO model: Kinetics-Skeleton
        joints="nose neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist right_hip "
        "right_knee right_ankle left_hip left_knee left_ankle right_eye left_eye right_ear left_ear",
        bones="4-3-2-1 7-6-5-1 10-9-8-1 13-12-11-1 16-14-0-1 17-15-0",
        parts={
            "head": "0 1 14-17",
            "right_arm": "2-4",
            "left_arm": "5-7",
            "right_leg": "8-10",
            "left_leg": "11-13",
        },
    ),
    "body25": Table(  # OpenPose's BODY_25 model
        joints="nose neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist mid_hip right_hip "
        "right_knee right_ankle left_hip left_knee left_ankle right_eye left_eye right_ear left_ear left_big_toe "
        "left_small_toe left_heel right_big_toe right_small_toe right_heel",
        bones="4-3-2-1 7-6-5-1 23-22-11-10-9-8-1 24-11 20-19-14-13-12-8 21-14 17-15-0-1 18-16-0",
        parts={
            "trunk": "0 1 8 15-18",
            "right_arm": "2-4",
            "left_arm": "5-7",
            "right_leg": "9-11 22-24",
            "left_leg": "12-14 19-21",
        },
    ),
    "mediapipe33": Table(  # MediaPipe Pose, BlazePose
        joints="nose left_eye_inner left_eye left_eye_outer right_eye_inner right_eye right_eye_outer left_ear "
        "right_ear left_mouth right_mouth left_shoulder right_shoulder left_elbow right_elbow left_wrist "
        "right_wrist left_pinky right_pinky left_index right_index left_thumb right_thumb left_hip right_hip "
        "left_knee right_knee left_ankle right_ankle left_heel right_heel left_foot_index right_foot_index",
        bones="7-3-2-1-0 8-6-5-4-0 9-0 10-0 17-15-13-11-0 19-15 21-15 18-16-14-12-0 20-16 22-16 29-27-25-23-0 31-27 "
        "30-28-26-24-0 32-28",
        parts={
            "head": "0-10",
            "left_arm": "11 13 15 17 19 21",
            "right_arm": "12 14 16 18 20 22",
            "left_leg": "23 25 27 29 31",
            "right_leg": "24 26 28 30 32",
        },
        edges="23-11 24-12",
    ),
    "halpe26": Table(  # AlphaPose's body of Halpe-FullBody; RTMPose's body with feet
        joints="nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow "
        "left_wrist right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle head neck hip "
        "left_big_toe right_big_toe left_small_toe right_small_toe left_heel right_heel",
        bones="3-1-0-18 4-2-0 17-18 9-7-5-18 10-8-6-18 24-15-13-11-19-18 20-15 22-15 25-16-14-12-19 21-16 23-16",
        parts={
            "trunk": "0-4 17-19",
            "left_arm": "5 7 9",
            "right_arm": "6 8 10",
            "left_leg": "11 13 15 20 22 24",
            "right_leg": "12 14 16 21 23 25",
        },
    ),
    "coco133": Table(  # COCO-WholeBody: body 0-16, feet 17-22, face 23-90, hands 91-132
        joints="nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow "
        "left_wrist right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle "
        "left_big_toe left_small_toe left_heel right_big_toe right_small_toe right_heel "
        "right_jaw_1 right_jaw_2 right_jaw_3 right_jaw_4 right_jaw_5 right_jaw_6 right_jaw_7 right_jaw_8 chin "
        "left_jaw_8 left_jaw_7 left_jaw_6 left_jaw_5 left_jaw_4 left_jaw_3 left_jaw_2 left_jaw_1 "
        "right_eyebrow_1 right_eyebrow_2 right_eyebrow_3 right_eyebrow_4 right_eyebrow_5 "
        "left_eyebrow_5 left_eyebrow_4 left_eyebrow_3 left_eyebrow_2 left_eyebrow_1 "
        "nose_bridge_1 nose_bridge_2 nose_bridge_3 nose_bridge_4 "
        "right_nostril_1 right_nostril_2 nose_base left_nostril_2 left_nostril_1 "
        "right_eye_outer right_eye_top_outer right_eye_top_inner right_eye_inner right_eye_bottom_inner "
        "right_eye_bottom_outer left_eye_inner left_eye_top_inner left_eye_top_outer left_eye_outer "
        "left_eye_bottom_outer left_eye_bottom_inner "
        "right_mouth_1 right_mouth_2 right_mouth_3 upper_lip left_mouth_3 left_mouth_2 left_mouth_1 "
        "left_mouth_4 left_mouth_5 lower_lip right_mouth_5 right_mouth_4 "
        "right_inner_mouth_1 right_inner_mouth_2 upper_inner_lip left_inner_mouth_2 left_inner_mouth_1 "
        "left_inner_mouth_3 lower_inner_lip right_inner_mouth_3 "
        "left_hand_root left_thumb1 left_thumb2 left_thumb3 left_thumb4 "
        "left_forefinger1 left_forefinger2 left_forefinger3 left_forefinger4 "
        "left_middle_finger1 left_middle_finger2 left_middle_finger3 left_middle_finger4 "
        "left_ring_finger1 left_ring_finger2 left_ring_finger3 left_ring_finger4 "
        "left_pinky_finger1 left_pinky_finger2 left_pinky_finger3 left_pinky_finger4 "
        "right_hand_root right_thumb1 right_thumb2 right_thumb3 right_thumb4 "
        "right_forefinger1 right_forefinger2 right_forefinger3 right_forefinger4 "
        "right_middle_finger1 right_middle_finger2 right_middle_finger3 right_middle_finger4 "
        "right_ring_finger1 right_ring_finger2 right_ring_finger3 right_ring_finger4 "
        "right_pinky_finger1 right_pinky_finger2 right_pinky_finger3 right_pinky_finger4",
        bones="9-7-5-0 10-8-6-0 3-1-0 4-2-0 15-13-11-0 17-15 18-15 19-15 16-14-12-0 20-16 21-16 22-16 "
        "50-51-52-53-0 40-41-42-43-44-50 49-48-47-46-45-50 59-60-61-62-50 64-63-62 68-67-66-65-50 69-70-65 "
        "54-55-56-53 58-57-56 71-72-73-74-56 77-76-75-74 83-84-85-74 87-86-85 90-89-85 88-89 82-81-80-89 78-79-80 "
        "23-24-25-26-27-28-29-30-31-80 39-38-37-36-35-34-33-32-31 "
        "95-94-93-92-91-9 99-98-97-96-91 103-102-101-100-91 107-106-105-104-91 111-110-109-108-91 "
        "116-115-114-113-112-10 120-119-118-117-112 124-123-122-121-112 128-127-126-125-112 132-131-130-129-112",
        parts={
            "head": "0-4 23-90",
            "left_arm": "5 7 9",
            "right_arm": "6 8 10",
            "left_hand": "91-111",
            "right_hand": "112-132",
            "left_leg": "11 13 15 17-19",
            "right_leg": "12 14 16 20-22",
        },
        edges="11-5 12-6",
    ),
    "smpl22": Table(  # SMPL's body without hands: AMASS, HumanML3D
        joints="pelvis left_hip right_hip spine1 left_knee right_knee spine2 left_ankle right_ankle spine3 left_foot "
        "right_foot neck left_collar right_collar head left_shoulder right_shoulder left_elbow right_elbow left_wrist "
        "right_wrist",
        bones="10-7-4-1-0 11-8-5-2-0 15-12-9-6-3-0 20-18-16-13-9 21-19-17-14-9",
        parts={
            "trunk": "0 3 6 9 12 15",
            "left_arm": "13 16 18 20",
            "right_arm": "14 17 19 21",
            "left_leg": "1 4 7 10",
            "right_leg": "2 5 8 11",
        },
    ),
    "smpl24": Table(  # SMPL: BABEL, 3DPW
        joints="pelvis left_hip right_hip spine1 left_knee right_knee spine2 left_ankle right_ankle spine3 left_foot "
        "right_foot neck left_collar right_collar head left_shoulder right_shoulder left_elbow right_elbow left_wrist "
        "right_wrist left_hand right_hand",
        bones="10-7-4-1-0 11-8-5-2-0 15-12-9-6-3-0 22-20-18-16-13-9 23-21-19-17-14-9",
        parts={
            "trunk": "0 3 6 9 12 15",
            "left_arm": "13 16 18 20 22",
            "right_arm": "14 17 19 21 23",
            "left_leg": "1 4 7 10",
            "right_leg": "2 5 8 11",
        },
    ),
    "hdm05": Table(  # HDM05's ASF files; a joint is the far end of the bone whose name it has
        joints="root left_hipjoint left_femur left_tibia left_foot left_toes right_hipjoint right_femur right_tibia "
        "right_foot right_toes lowerback upperback thorax lowerneck upperneck head left_clavicle left_humerus "
        "left_radius left_wrist left_hand left_fingers left_thumb right_clavicle right_humerus right_radius "
        "right_wrist right_hand right_fingers right_thumb",
        bones="5-4-3-2-1-0 10-9-8-7-6-0 16-15-14-13-12-11-0 22-21-20-19-18-17-13 23-20 29-28-27-26-25-24-13 30-27",
        parts={
            "trunk": "0 11-16",
            "left_arm": "17-23",
            "right_arm": "24-30",
            "left_leg": "1-5",
            "right_leg": "6-10",
        },
    ),
    "penn13": Table(  # Penn Action, whose left and right are a viewer's who sees the person's front
        joints="head left_shoulder right_shoulder left_elbow right_elbow left_wrist right_wrist left_hip right_hip "
        "left_knee right_knee left_ankle right_ankle",
        bones="5-3-1-0 6-4-2-0 11-9-7-0 12-10-8-0",
        parts={
            "head": "0",
            "left_arm": "1 3 5",
            "right_arm": "2 4 6",
            "left_leg": "7 9 11",
            "right_leg": "8 10 12",
        },
        edges="7-1 8-2",
    ),
    "jhmdb15": Table(  # JHMDB
        joints="neck belly face right_shoulder left_shoulder right_hip left_hip right_elbow left_elbow right_knee "
        "left_knee right_wrist left_wrist right_ankle left_ankle",
        bones="2-0 11-7-3-0 12-8-4-0 13-9-5-1-0 14-10-6-1",
        parts={
            "trunk": "0-2",
            "right_arm": "3 7 11",
            "left_arm": "4 8 12",
            "right_leg": "5 9 13",
            "left_leg": "6 10 14",
        },
    ),
    "msr20": Table(  # Kinect v1 in the order of MSR-Action3D
        joints="left_shoulder right_shoulder shoulder_center spine left_hip right_hip hip_center left_elbow "
        "right_elbow left_wrist right_wrist left_hand right_hand left_knee right_knee left_ankle right_ankle left_foot "
        "right_foot head",
        bones="19-2 11-9-7-0-2 12-10-8-1-2 17-15-13-4-6-3-2 18-16-14-5-6",
        parts={
            "trunk": "2 3 6 19",
            "left_arm": "0 7 9 11",
            "right_arm": "1 8 10 12",
            "left_leg": "4 13 15 17",
            "right_leg": "5 14 16 18",
        },
    ),
    "utd20": Table(  # Kinect v1 in the order of UTD-MHAD
        joints="head shoulder_center spine hip_center left_shoulder left_elbow left_wrist left_hand right_shoulder "
        "right_elbow right_wrist right_hand left_hip left_knee left_ankle left_foot right_hip right_knee right_ankle "
        "right_foot",
        bones="0-1 7-6-5-4-1 11-10-9-8-1 15-14-13-12-3-2-1 19-18-17-16-3",
        parts={
            "trunk": "0-3",
            "left_arm": "4-7",
            "right_arm": "8-11",
            "left_leg": "12-15",
            "right_leg": "16-19",
        },
    ),
    "hand21": Table(  # one hand: MediaPipe Hands, OpenPose's hands, FreiHAND
        joints="wrist thumb_cmc thumb_mcp thumb_ip thumb_tip index_finger_mcp index_finger_pip index_finger_dip "
        "index_finger_tip middle_finger_mcp middle_finger_pip middle_finger_dip middle_finger_tip ring_finger_mcp "
        "ring_finger_pip ring_finger_dip ring_finger_tip pinky_mcp pinky_pip pinky_dip pinky_tip",
        bones="4-3-2-1-0 8-7-6-5-0 12-11-10-9-0 16-15-14-13-0 20-19-18-17-0",
        parts={
            "palm": "0 1 5 9 13 17",
            "thumb": "2-4",
            "index_finger": "6-8",
            "middle_finger": "10-12",
            "ring_finger": "14-16",
            "pinky": "18-20",
        },
    ),
}
