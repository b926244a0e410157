"""Upscale pictures with a trained network, as the installed command `facesr-upscale` does.

python scripts/upscale.py -i photo.jpg scans/ -o enlarged
python scripts/upscale.py -i photo.jpg --weights experiments/exp1_lsr/models/net_g_best.pth
"""

from facesr_plugin.upscale_command import command

if __name__ == '__main__':
    command()
